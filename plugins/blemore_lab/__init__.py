"""A bench where the truth is known: simulated challenges that show which fusions and thresholds generalise to actors.

Rows of simulated encoders are drawn on a real label table, everything is chosen on the training actors as it is chosen
in a run, and scored on actors that nobody saw. Nothing here is a result on BLEMORE; every table and record says so.
"""
