"""Frozen speech networks: the sound of a clip as features over time, and a head."""
