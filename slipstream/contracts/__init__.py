"""Contracts: the types and names that services share with one another and with the library.

`events` and `topics` describe the records on Kafka, `positions` their places there, `rest` the HTTP
bodies, `bundle` the manifest of a model. `services` lists the services and their ports.
`vocabulary` holds names, weights and limits that several services must agree on, and `times` the
form of every time.

Nothing here does I/O or imports another part of the project.
"""
