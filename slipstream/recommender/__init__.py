"""From a visitor's history to a ranked list: the bundle, the stages that serve it and evaluate it,
and how it is fitted.
"""
