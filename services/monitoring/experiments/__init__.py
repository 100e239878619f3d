"""Experiments: their tables, their REST routes, and the checks of a design before it is kept."""
