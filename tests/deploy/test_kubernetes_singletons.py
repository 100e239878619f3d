"""Pods of the services that act once: the old one goes before a new one comes."""

import pytest

from tests.deploy.manifests import KUBERNETES, documents, workload


@pytest.mark.parametrize("service", ["training", "monitoring"])
def test_one_pod_goes_before_the_next_one_comes(service: str) -> None:
    spec = workload(service)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_one_node_mounts_the_volume_of_models() -> None:
    (models,) = [
        claim
        for claim in documents(KUBERNETES / "base" / "volumes.yaml")
        if claim["metadata"]["name"] == "models"
    ]
    assert models["spec"]["accessModes"] == ["ReadWriteOnce"]
