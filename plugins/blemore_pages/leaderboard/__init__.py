"""The ranking of stored runs and published results: the command `leaderboard`."""
