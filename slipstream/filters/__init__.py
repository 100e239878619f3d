"""Filters of items: expressions over attributes, and the conditions that they state.

Serving makes masks of conditions over all items; `evaluation` looks at one.
"""
