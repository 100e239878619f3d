"""Pods of the services that act once, and those that stand by for them."""

import pytest

from tests.deploy.manifests import KUBERNETES, container, documents, manifest, workload


@pytest.mark.parametrize("service", ["training", "monitoring"])
def test_pods_of_a_service_that_acts_once_can_hand_requests_to_one_another(service: str) -> None:
    variables = {variable["name"]: variable["valueFrom"] for variable in container(service)["env"]}
    assert variables["SLIPSTREAM_HTTP__ADVERTISED_HOST"] == {
        "fieldRef": {"fieldPath": "status.podIP"}
    }


def test_two_pods_of_monitoring_roll_one_after_the_other() -> None:
    spec = workload("monitoring")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    budget = manifest("monitoring", "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == spec["selector"]


def test_training_is_one_pod_while_one_node_mounts_its_volume() -> None:
    (models,) = [
        claim
        for claim in documents(KUBERNETES / "base" / "volumes.yaml")
        if claim["metadata"]["name"] == "models"
    ]
    assert models["spec"]["accessModes"] == ["ReadWriteOnce"]
    spec = workload("training")["spec"]
    # The new pod may have to wait for the volume, so it is not waited for.
    assert spec["replicas"] == 1
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == "100%"
