"""From folds to numbers: scores, intervals, paired tests, breakdowns, labels of the test clips."""
