"""Features over time, released or extracted here, under the harness's head: what all frozen encoders share.

An encoder of this kind reads the organisers' released folder where the dataset has it, or their aggregated file, or
makes the same arrays from the clips; from there on there is one way: seven statistics, a head.
"""
