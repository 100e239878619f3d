"""Masks of filters over the items of the catalogue and of a model."""
