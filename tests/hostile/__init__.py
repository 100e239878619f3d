"""The hostile test: the stack under its manifests' memory limits and the worst traffic."""
