"""Serving: answers what to recommend, within milliseconds, with whatever is there to answer with.

Owns       the way from a visitor's history to a ranked list, and the choice of what answers when something is missing
Consumes   `model-events.v1` and `catalog.v1`, without a group: every replica reads all of both, from the beginning
Produces   `recommendations.v1`: every slate that was answered
Calls      training: which version is champion, and the files of its bundle
Stores     nothing of its own but a cache of bundles on disk; reads the online store (Redis)
"""
