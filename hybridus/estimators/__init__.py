"""Estimators: what users put into a scikit-learn Pipeline."""
