"""The official rules, the grid of thresholds and the search over it: pure, documented functions."""
