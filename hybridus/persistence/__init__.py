"""Model files: estimators on disk that are opened without running code from the file."""
