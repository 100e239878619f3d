"""The lists that a shop shows beside personal recommendations, and lists for many visitors."""
