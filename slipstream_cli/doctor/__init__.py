"""`slipstream doctor`: figures of a running stack and its data, and the findings that follow.

Each part is one module (`events.py`, `catalogue.py`, `stack.py`), which reads figures within limits
of rows, bytes and time. Checks are pure functions from figures to findings; those of events and
catalogue are `slipstream.evaluation.data_checks`. `examination.py` joins them.
"""
