"""Benchmarks of the services, each compared with a ceiling measured in the same run.

Absolute times say little about another machine. The ratio to the ceiling on the same machine, at
the same moment, says more.
"""
