"""Frozen encoders: which exist, where their weights are, how they are cut, pooled and run."""
