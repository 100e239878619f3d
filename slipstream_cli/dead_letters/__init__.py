"""`slipstream dead-letters`: look at what could not be taken, and send it again once the cause is
repaired.

Letters are read from the topic; originals are sent through ingestion's REST API like anything else,
so that nothing goes round its checks.
"""
