"""Frozen picture and video networks: the frames of a clip as features over time, and a head."""
