"""Training turns history into a model, and lets it serve only when it is measurably good enough.

Owns: training runs, the gate's decisions, the model registry and its aliases, model bundles.
Consumes: alerts.v1, group "training"; an alert with the action "retrain" queues a run;
    access-keys.v1, without a group.
Produces: model-events.v1.
Calls: no other service; the Kubernetes API, where runs are Jobs.
Stores: runs, decisions, waiting alerts, model events, audit records and the lease in SQL, tables
    `training_*` and `gate_decision`; MLflow's database; bundles and the checkpoints of runs in a
    folder; files of runs under way in an exchange, a folder or S3. Reads the lake, and its
    erasures.

One instance a namespace acts, by a lease in SQL.
"""
