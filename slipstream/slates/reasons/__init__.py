"""Measured reasons: a slate's items, ranked again without each item of the visitor's history."""
