"""Ingestion turns what clients send into records on topics, with a verdict for each message.

Owns: the REST endpoints for events and catalogue entries, the pixel and the tracker's script.
Consumes: access-keys.v1, without a group.
Produces: interactions.v1, catalog.v1, people.v1, dead-letters.v1.
Calls: monitoring, for the receipt of an erasure.
Stores: message ids and rates in Redis.

An answer of 200 means that the broker has acknowledged the records.
"""
