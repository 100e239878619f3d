"""Access to a service: who calls, what a route demands, and the guard between the two."""
