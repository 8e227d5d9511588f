"""Clips as files: opened, decoded in presentation order, their frames kept once for all encoders."""
