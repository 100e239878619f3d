"""Slipstream's shared library: contracts, chassis, adapters and the pure parts that several
services stand on.
"""
