"""Statistics of experiments that may be looked at at any time. Pure functions of sums."""
