"""Frame-level features, released or extracted, with the harness's classification head: the base of all frozen encoders.

Such an encoder reads the organisers' released folder if the dataset has it, else their aggregated file, else extracts
the same arrays from the clips. The features are pooled to seven statistics, on which the head is trained.
"""
