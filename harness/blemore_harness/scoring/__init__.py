"""From folds to numbers: scores, intervals, paired tests, breakdowns, test clips; of new runs and stored ones."""
