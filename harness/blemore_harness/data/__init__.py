"""A BLEMORE download on disk: reading, inspection, and the blinded version that plugins get."""
