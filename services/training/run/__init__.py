"""Training run, from its job to its report: its child process, and the start of that process.

`train` goes from top to bottom: data, fit, judging, report. `launcher` has it computed by `process`
and `child` on this machine, or by `remote` and `kubernetes_jobs` elsewhere, where `worker` takes
the job from the `exchange`. `progress` and `eta` report how far it is.
"""
