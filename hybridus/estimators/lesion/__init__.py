"""Lesion features: where the lesion lies, how it is measured, and the transformer of both."""
