"""Monitoring: does it work, is it still right, and who is told when not.

Owns: click-through and conversion by model version, drift of the features that models answer on, alerts.
Consumes: interactions.v1, recommendations.v1, feature-updates.v1 (watermark), model-events.v1; group "monitoring".
Produces: alerts.v1 (action "retrain" asks training for a run).
Calls: every service's /health/ready; features /v1/status; training's champion, its manifest and its latest runs.
Stores: slates, the interactions that may follow from them, the counts, alerts; SQL, tables `monitoring_*`.

One replica a namespace: a second one would judge the same rules again. A restart loses nothing, so
replace it in place.
"""
