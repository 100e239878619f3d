"""Experiments: the visitors whom they assign to variants, and lists of two variants."""
