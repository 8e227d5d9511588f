"""The command `predictions`: a system's answers clip by clip."""
