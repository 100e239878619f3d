"""Placements: their tables, their REST routes, and the checks of a policy before it is kept."""
