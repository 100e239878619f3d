"""Data sets and files of interactions, in the one format that replay and evaluation read."""
