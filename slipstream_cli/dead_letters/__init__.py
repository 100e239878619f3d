"""Reading and replaying of dead letters.

Letters are read from the topic. Their originals are sent through ingestion's REST API, so that its
checks hold for them, too.
"""

# The file in a data folder that has the letters while the embedded broker does not run.
KEPT_FILE = "dead-letters.jsonl"
