"""The demo: film ratings through the whole of Slipstream, and a click that changes a list."""
