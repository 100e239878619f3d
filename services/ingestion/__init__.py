"""Ingestion: what clients send becomes records on topics.

Owns: the REST endpoints that events and catalogue entries enter through, and the write keys
Consumes: nothing
Produces: interactions.v1, catalog.v1, dead-letters.v1
Calls: no other service
Stores: Redis (message ids, rates, write keys), and a spool on disk where that is switched on; an answer of 200 means that the
    broker has acknowledged, or that the spool is on disk
"""
