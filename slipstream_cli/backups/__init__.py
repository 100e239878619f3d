"""`slipstream backup` and `slipstream restore`: SQL, models, and pointers into the lake.

A backup is a folder with `manifest.json`, `sql/`, `models/` and `SHA256SUMS`. It is taken beside
running services, in the order in which an inconsistency is harmless: SQL at one moment, then the
bundles (which never change, so that those of the moment are there), then the lake's versions.
"""
