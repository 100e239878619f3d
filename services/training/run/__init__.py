"""One training run, from its job to its report: the code that works in the child process, and its
start.
"""
