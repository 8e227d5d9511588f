"""The record of a run: written, read back, compared with published numbers."""
