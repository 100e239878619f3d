"""Audiences: the visitors whom one item would interest most (docs/adr/0053)."""
