"""Rankings: the items that a caller brings, with what the caller alone knows of them now."""
