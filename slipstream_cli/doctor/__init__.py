"""`slipstream doctor`: figures of a running stack and its data, and the findings that follow.

Each part is one module (`events.py`, `catalogue.py`, `training.py`, `stack.py`): it reads figures
within limits of rows, bytes and time, and its checks are pure functions from figures to findings.
`examination.py` joins them.
"""
