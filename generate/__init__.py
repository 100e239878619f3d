"""Generators of what repeats the code: reference pages, Kubernetes manifests, and pipelines."""
