"""What encoders of hosted services share: consent, keys, refusals, pacing, budgets, and extraction clip by clip."""
