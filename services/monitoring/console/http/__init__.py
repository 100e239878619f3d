"""Routes of the console."""
