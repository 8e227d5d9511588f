"""Fails while it is imported, as a module does whose own dependency was updated."""

raise AttributeError("module 'numpy' has no attribute 'float_'")
