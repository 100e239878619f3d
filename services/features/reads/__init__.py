"""Feature reads, in Feast's shape and in our own."""
