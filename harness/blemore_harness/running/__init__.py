"""Calls into plugins, in this process or in workers: requested, guarded, checked, kept and recorded."""
