"""Training run, from its job to its report: its child process, and the start of that process."""
