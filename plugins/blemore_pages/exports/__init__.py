"""Results of a run in the formats of others: the command `export`."""
