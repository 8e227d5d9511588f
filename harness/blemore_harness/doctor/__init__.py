"""The environment check: whether a run can work on this machine, and what to do where it cannot."""
