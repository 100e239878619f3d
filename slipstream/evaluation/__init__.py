"""Splits, ranking metrics, significance and drift: pure functions on arrays."""
