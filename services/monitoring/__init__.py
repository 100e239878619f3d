"""Monitoring measures whether recommendations work, and alerts when they no longer do.

Owns: click-through and conversion by model version, drift of models' features, alerts,
    access keys.
Consumes: interactions.v1, recommendations.v1, feature-updates.v1 and model-events.v1; group
    "monitoring"; access-keys.v1 and access-key-uses.v1, without a group.
Produces: alerts.v1; an alert with the action "retrain" asks training for a run. access-keys.v1.
Calls: every service's /health/ready; features' status; training's champion, manifest and runs.
Stores: slates, the interactions that follow, counts, alerts, access keys, audit records and the
    lease, in SQL tables `monitoring_*`.

One instance a namespace acts, by a lease in SQL; others stand by.
"""
