"""Produce to Kafka, and consume from it at least once; `kafka.py` is the only place that knows the
client library.
"""
