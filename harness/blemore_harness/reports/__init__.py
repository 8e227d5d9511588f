"""What folds add up to: scored, written down, drawn for people, read back and compared."""
