"""Simulated experiments that say whether confidence sequences keep what they promise."""
