"""Stores: online (Redis), lake (Delta), metadata (SQL), and artifacts (model bundles, on disk).

Redis: `online` and `folding` replace states, with keys and bytes by `layout`. `checkpoints` shows
what was lost, `cluster_clients` orders writes on a cluster, `visitor_values` merges visitors,
`erasing` erases them, `rebuild` replaces states from history. Lake: `lake` appends rows with the
offsets that they cover and merges small files, `lake_reader` reads, `tables` makes and evolves
tables, `row_erasure` deletes rows. SQL: `metadata`, `migrations`, `lease`, `sql_rows`.

Only this package imports the clients of Redis and Delta, but for one benchmark.
"""
