"""Stores: online (Redis), lake (Delta), metadata (SQL), and artifacts (model bundles, on disk).

Only this package imports the clients of Redis and Delta, but for one benchmark.
"""
