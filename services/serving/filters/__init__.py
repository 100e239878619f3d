"""Filters of items: expressions over the catalogue's attributes, and the masks that they give."""
