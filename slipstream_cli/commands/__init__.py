"""The commands, one file each; `slipstream_cli.__main__` makes them a command line."""
