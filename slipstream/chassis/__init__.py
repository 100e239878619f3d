"""The chassis that every service is built on (the microservice chassis pattern, microservices.io).

`app` builds and runs the HTTP app of a service, from `settings`. `opening` waits for servers that
are unavailable (`dependencies`), `worker` keeps background threads running, and `ending` stops the
service. `guard` authenticates requests, `errors` answers failures, `hot_routes` answers the
busiest routes, and `client` calls other services. `health`, `metrics` and `logging` let it be
observed.

Nothing here knows the domain of recommendations.
"""
