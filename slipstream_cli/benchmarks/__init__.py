"""Benchmarks against a running stack. Each prints its result beside the ceiling that it measured in
the same run.

Absolute times say little about another machine; the ratio to what the same machine can do at that
moment says more.
"""
