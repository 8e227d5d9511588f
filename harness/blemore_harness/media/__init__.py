"""Media files: opening, decoding in presentation order, and a cache of frames shared by all encoders."""
