"""`slipstream backup` and `slipstream restore`: SQL, models, and pointers into the lake.

A backup is a folder with `manifest.json`, `sql/`, `models/` and `SHA256SUMS`. Services keep running
while it is taken. Its order makes inconsistencies harmless: SQL at one moment, then the bundles,
which never change, then the lake's versions.
"""
