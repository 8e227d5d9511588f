"""Charts of runs and systems: Vega-Lite specifications of aggregated numbers, each with a table for screen readers."""
