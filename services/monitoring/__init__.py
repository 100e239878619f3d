"""Monitoring measures whether recommendations work, and alerts when they no longer do.

Owns: click-through and conversion by model version, drift and faults of models' inputs, alerts,
    access keys, placements, experiments, alert rules, receipts of erasures.
Consumes: interactions.v1, recommendations.v1, feature-updates.v1, model-events.v1, people.v1 (for
    erasures) and erased-visitors.v1; group "monitoring"; access-keys.v1, access-key-uses.v1,
    placements.v1 and experiments.v1 (to publish all after one was recreated), and catalog.v1,
    without a group; while somebody watches, all topics but those of keys, from their ends.
Produces: alerts.v1; an alert with the action "retrain" asks training for a run, one with `hold` to
    promote nothing. access-keys.v1, placements.v1, experiments.v1.
Calls: the lake, for interactions, slates and catalogue, from which it counts outcomes, clicks of
    lists and the sums of experiments' visitors, and reads a visitor's slates; every service's
    /health/ready; features' status and erasures; training's champion, runs and models; features and
    serving for pages of the console; webhooks and mail servers, where settings name some.
Stores: outcomes with the credits behind them, lists by answering step, sums of answers, shadows,
    experiments' sums by visitor, windows, alerts, access keys, placements,
    experiments and alert rules with all their revisions, erasures (without names once they are
    done), sessions, audit records and the lease, in SQL tables `monitoring_*`.

One instance a namespace acts, by a lease in SQL.
"""
