"""Slates: from a request, a visitor and a catalogue to the list that is shown. No HTTP, no servers.

Serving, replays, `slipstream batch-recommend` and evaluation run the same functions.
"""
