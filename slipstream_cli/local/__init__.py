"""Slipstream on one machine: the embedded servers and the five services as supervised child
processes.
"""
