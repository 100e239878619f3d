"""The control plane: access keys, placements and experiments, their tables and publication."""
