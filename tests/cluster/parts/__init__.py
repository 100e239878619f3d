"""The parts of the demo, one module each, in the order of the report."""
