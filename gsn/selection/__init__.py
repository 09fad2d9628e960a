"""Which step and which seed, chosen from scores."""
