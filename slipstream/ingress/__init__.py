"""Rules that clients' data must meet before it enters the stream.

There are two ingresses: ingestion takes events and catalogue entries, features takes rows that
Feast clients push. Both read ids, times, numbers and sizes by these rules, reject with the same
codes, and publish personal fields in the same form. `tests/unit/ingress/test_ingresses.py` holds
both to one table of cases, which names each difference and its reason.
"""
