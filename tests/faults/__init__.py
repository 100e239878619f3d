"""Slipstream under faults: services killed at random moments while events come, and every
acknowledged event counted once.
"""
