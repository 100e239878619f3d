"""What every service stands on: settings, app, worker, health, metrics, logging, errors,
authentication, peers.

The microservice chassis pattern (microservices.io). Nothing here knows a noun of the product's
domain.
"""
