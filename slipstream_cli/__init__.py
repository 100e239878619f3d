"""The command line `slipstream`: the tool of the person who runs the services. Nothing imports it."""
