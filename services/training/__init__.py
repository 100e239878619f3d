"""Training: turns history into a model, and lets it serve only when it is measured to be good
enough.

Owns:     training runs, the gate's decisions, the model registry and its aliases, the model bundles.
Consumes: alerts.v1 (group `training`): an alert with the action `retrain` queues a run.
Produces: model-events.v1.
Calls:    no other service.
Stores:   SQL (`training_run`, `gate_decision`), MLflow (a database beside it), bundles and the checkpoints of runs under way in a
          folder; reads the lake.
"""
