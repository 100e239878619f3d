"""Placements in memory, as `placements.v1` has them."""
