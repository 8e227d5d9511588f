"""From probabilities to labels: the official thresholds, the exact optimum, and every named strategy."""
