"""`make cluster-demo`: the local overlay on a real cluster, from nothing, killed, updated, scaled,
fenced and measured.
"""
