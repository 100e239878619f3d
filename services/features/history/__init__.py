"""History from the lake: backfill of the online store, and training rows."""
