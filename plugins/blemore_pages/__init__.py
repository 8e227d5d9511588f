"""Commands that show results and take them along: predictions, report, leaderboard, ranking, competition bundle.

Everything is read from the records and predictions of finished runs. Charts and pages need the extra `report`.
"""
