"""Sizes of a stack for a number of visitors, from measured figures (docs/capacity.md)."""
