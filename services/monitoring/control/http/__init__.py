"""The routes of the control plane."""
