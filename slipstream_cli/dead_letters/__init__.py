"""Reading and replaying of dead letters.

Letters are read from the topic. Their originals are sent through ingestion's REST API, so that its
checks hold for them, too.
"""
