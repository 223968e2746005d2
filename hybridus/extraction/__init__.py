"""Extraction: features of any number of images as Parquet files, and heads that learn from them."""
