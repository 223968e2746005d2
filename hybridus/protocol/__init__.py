"""Folds, scoring and comparison: the same for every kind of model."""
