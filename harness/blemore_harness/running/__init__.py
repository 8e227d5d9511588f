"""Calls into plugins, in this process or in workers: requested, guarded, checked and kept."""
