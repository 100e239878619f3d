"""Load from inside the cluster: two programs that run in pods, and the pods that run them."""
