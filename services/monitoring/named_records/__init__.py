"""Records under names, each with every revision: what placements and experiments have in common."""
