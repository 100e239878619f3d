"""`make test-compose`: docker-compose.yml run for real, from nothing, with each of its containers
killed once.
"""
