"""The one training loop of all heads, and what goes into it."""
