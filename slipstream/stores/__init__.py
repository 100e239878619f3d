"""Stores: online (Redis), lake (Delta), metadata (SQL), and artifacts (model bundles, on disk).

Redis: `online`, `visitors` and `items` replace states, with bytes by `layout` and `packing`, under
`keys`. `checkpoints` and `lineages` show what was lost, `settling` orders writes on a cluster,
`merges` and `markers` join visitors, `erasing` erases them, `rebuild` replaces states from history.
Lake: `lake` appends rows with the offsets that they cover, `lake_reader` reads, `compaction` merges
small files, `row_erasure` deletes rows. SQL: `metadata`, `migrations`, `lease`, `audit`,
`sql_rows`.

Only this package imports the clients of Redis and Delta, but for one benchmark.
"""
