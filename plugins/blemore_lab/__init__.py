"""The command `simulate`: replicates of the challenge, where it is known which methods generalise to unseen actors.

Probabilities of simulated encoders are drawn for a real label table. Everything is chosen on the training actors, as in
a run, and scored on unseen actors. Nothing here is a result on BLEMORE; every table and record says so.
"""
