"""Routes about one person: the export of what is kept of a user."""
