"""Reads of the catalogue as the online store has it: items, one or in pages, and users."""
