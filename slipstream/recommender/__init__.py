"""The recommender, from a visitor's history to a ranked list.

It has the bundle, the stages that serve and evaluate it, and its fit.
"""
