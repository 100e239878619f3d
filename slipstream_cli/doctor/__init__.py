"""`slipstream doctor`: figures of a running stack and its data, and the findings that follow.

Readers (`event_reader.py`, `catalogue_reader.py`, `stack_reader.py`) take figures within limits of
rows, bytes and time. Checks are pure functions from figures to findings: `event_checks.py`,
`catalogue_checks.py`, `training_checks.py`, `stack_checks.py`. `examination.py` joins them.
"""
