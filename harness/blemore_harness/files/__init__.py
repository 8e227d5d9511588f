"""Files of probabilities, labels and runs: reading, writing, scoring and checking."""
