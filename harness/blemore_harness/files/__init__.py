"""Files of probabilities and labels: read, written, scored and checked."""
