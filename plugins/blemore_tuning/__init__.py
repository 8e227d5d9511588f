"""Searches over options of plugins, scored on actors inside the training part only: the command `tune`.

Needs the extra `tune` (Optuna).
"""
