"""The routes of features over HTTP."""
