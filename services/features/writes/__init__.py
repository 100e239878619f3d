"""Rows that clients of Feast write, which go the way of every other event."""
