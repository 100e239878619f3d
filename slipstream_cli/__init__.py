"""The command line `slipstream`, the tool of operators and developers. Nothing imports it."""
