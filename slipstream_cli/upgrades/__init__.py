"""One-time steps after an upgrade."""
