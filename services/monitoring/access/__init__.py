"""Access keys of all services: their table, their REST routes, and their way onto the topic."""
