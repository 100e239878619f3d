"""Kubernetes manifests that are generated from the tables of services and topics."""
