"""The local overlay fits on a laptop."""

from tests.cluster.kubectl import quantity
from tests.manifests.installations import of_kind, overlay


def test_local_overlay_asks_for_no_more_than_a_laptop_has() -> None:
    """1,500 m and 5 GiB, with a surge pod of the largest service that gets one."""
    workloads = list(of_kind(overlay("local"), "Deployment", "StatefulSet").values())
    for resource, most in (("cpu", 1_500), ("memory", 5 * 2**30)):
        asked = {
            workload["metadata"]["name"]: workload["spec"]["replicas"]
            * sum(
                quantity(c["resources"]["requests"][resource])
                for c in workload["spec"]["template"]["spec"]["containers"]
            )
            for workload in workloads
        }
        surging = [
            workload["metadata"]["name"]
            for workload in workloads
            if workload["kind"] == "Deployment"
            and workload["spec"]["strategy"]["rollingUpdate"]["maxSurge"] != 0
        ]
        assert set(surging) >= {"ingestion", "serving", "monitoring"}
        assert sum(asked.values()) + max(asked[name] for name in surging) <= most
