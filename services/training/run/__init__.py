"""Training run, from its job to its report: the command that computes it, and its start.

`train` goes from top to bottom: data, fit, judging, report. `launcher` leaves the job in the
`exchange`, where the command `training-run` (`worker`) takes it. A starter starts the command: as a
`child_process`, as one of `kubernetes_jobs`, or not at all, where somebody else does.
"""
