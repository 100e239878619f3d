"""The record of one slate, and the catalogue that it was made from, for whoever makes it again."""
