"""Calls into plugins, in this process or in workers: asked, guarded, checked and kept."""
