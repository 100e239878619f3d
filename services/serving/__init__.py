"""Serving answers recommendations within milliseconds, also while a part that it needs is missing.

Owns: the way from a visitor's history to a slate, the fallback chain, and the
    other lists of a shop.
Consumes: model-events.v1, catalog.v1, placements.v1, experiments.v1 and access-keys.v1, without a
    group: each replica reads them from the start.
Produces: recommendations.v1, a record for each slate.
Calls: training, for the champion's version and the files of its bundle. For replays of answers:
    features, for a slate and the catalogue of that time; training, for the files of any version;
    monitoring, for revisions of placements.
Stores: a cache on disk, of bundles and of the last known catalogue, placements, experiments and
    keys; it reads the online store (Redis).
"""
