"""Prosody: pitch, energy, timbre and rhythm of a clip without any weights, and a head."""
