"""The trained classification head: options, models, training, and how its epoch is chosen."""
