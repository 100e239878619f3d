"""The way of one request to its slate."""
