"""Overlays and named installations build, fit together, and agree with the code."""

import re
from collections import Counter
from typing import Any

import pytest

from slipstream.broker.topics import physical
from slipstream.chassis.access.verifier import refuse_exposure
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import INTERACTIONS, TOPICS
from tests.deploy.declared import ADDRESSES, build_settings, image_environment, names_a_setting
from tests.deploy.manifests import KUBERNETES
from tests.manifests.installations import (
    INSTALLATIONS,
    OVERLAYS,
    built,
    combination,
    of_kind,
    overlay,
    pod_templates,
)
from tests.manifests.pod_security import context_faults, faults

Objects = tuple[dict[str, Any], ...]
BUILDS = [*OVERLAYS, *INSTALLATIONS]
# Secrets that are not in the manifests: operators make those, or whoever installs.
MADE_ELSEWHERE = re.compile(r"slipstream-\w+|kafka-cluster-ca-cert|postgres-app")
# What no service reads by itself: parts of addresses, and a number of threads.
OTHER_VARIABLES = {"OMP_NUM_THREADS", "POSTGRES_PASSWORD", "REDIS_PASSWORD"}


@pytest.mark.parametrize("name", BUILDS)
def test_every_pod_is_restricted(name: str) -> None:
    templates = pod_templates(built(name))
    assert len(templates) >= len(SERVICES)
    assert {pod: found for pod, t in templates.items() if (found := faults(t["spec"]))} == {}
    for kafka in of_kind(built(name), "Kafka").values():
        for part in ("kafka", "entityOperator"):
            template = kafka["spec"][part]["template"]
            contexts = [v["securityContext"] for k, v in template.items() if "Container" in k]
            assert contexts
            for own in contexts:
                assert [*context_faults(template["pod"]["securityContext"], own)] == []


@pytest.mark.parametrize("name", BUILDS)
def test_every_reference_leads_somewhere(name: str) -> None:
    objects = built(name)
    known = {(o["kind"], o["metadata"]["name"]) for o in objects}
    assert len(known) == len(objects)
    for template in pod_templates(objects).values():
        pod = template["spec"]
        for kind, reference in _references(pod):
            external = name != "local" and kind == "Secret" and MADE_ELSEWHERE.fullmatch(reference)
            assert (kind, reference) in known or external, (kind, reference)
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            assert mounted <= {v["name"] for v in pod.get("volumes", ())} | {"data"}
    # KServe makes this Deployment.
    known |= {("Deployment", f"{n}-predictor") for n in of_kind(objects, "InferenceService")}
    for scaler in of_kind(objects, "ScaledObject", "HorizontalPodAutoscaler").values():
        target = scaler["spec"]["scaleTargetRef"]
        assert (target.get("kind", "Deployment"), target["name"]) in known
    for policy in of_kind(objects, "PrometheusRule", "ServiceMonitor").values():
        assert policy["spec"]


def _references(pod: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("ServiceAccount", pod["serviceAccountName"])] if "serviceAccountName" in pod else []
    for volume in pod.get("volumes", ()):
        for source, kind, key in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
        ):
            if source in volume:
                found.append((kind, volume[source][key]))
    for container in pod["containers"]:
        found += [("ConfigMap", s["configMapRef"]["name"]) for s in container.get("envFrom", ())]
        for variable in container.get("env", ()):
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            if secret and not secret.get("optional"):
                found.append(("Secret", secret["name"]))
    return found


@pytest.mark.parametrize("name", BUILDS)
def test_a_workload_has_one_autoscaler_and_then_no_number_of_replicas(name: str) -> None:
    objects = built(name)
    scalers = [o for o in objects if o["kind"] in {"ScaledObject", "HorizontalPodAutoscaler"}]
    scaled = Counter(o["spec"]["scaleTargetRef"]["name"] for o in scalers)
    assert set(scaled.values()) <= {1}
    for target, workload in of_kind(objects, "Deployment", "StatefulSet").items():
        assert ("replicas" not in workload["spec"]) == (target in scaled)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", BUILDS)
def test_a_service_gets_valid_settings(
    name: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _environment(built(name), service)
    assert set(environment) >= ADDRESSES[service]
    assert {v for v in environment if not names_a_setting(v)} <= OTHER_VARIABLES
    settings = build_settings(service, image_environment(service) | environment, monkeypatch)
    refuse_exposure(settings)
    if settings.kafka.security_protocol != "PLAINTEXT":
        assert settings.kafka.sasl_username == f"slipstream-{service}"
        assert settings.kafka.ssl_cafile == "/etc/kafka-ca/ca.crt"


def _environment(objects: Objects, service: str) -> dict[str, str]:
    """A service's variables, as its container starts: those of its ConfigMap, then its own.

    `$(NAME)` stands for a variable that is listed before. Secrets have made-up values.
    """
    secrets = {
        "ingestion-write-keys": "shop:k",
        "access-token-secret": "t" * 32,
        "lake-storage-options": "{}",
    }
    template = next(t for name, t in pod_templates(objects).items() if name.endswith(service))
    (container,) = template["spec"]["containers"]
    configured = of_kind(objects, "ConfigMap")
    environment: dict[str, str] = {}
    for source in container["envFrom"]:
        environment |= configured[source["configMapRef"]["name"]]["data"]
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        given = secrets.get(reference["key"], "s" * 32) if reference else ""
        value = re.sub(r"\$\((\w+)\)", lambda m: environment[m[1]], variable.get("value", given))
        environment[variable["name"]] = value
    return environment


@pytest.mark.parametrize("name", ["staging", "production"])
def test_an_overlay_has_its_own_names_where_components_have_others(name: str) -> None:
    objects = overlay(name)
    (namespace,) = of_kind(objects, "Namespace")
    environment = _environment(objects, "features")
    assert environment["SLIPSTREAM_LAKE__URI"] == f"s3://slipstream-{name}/lake"
    # KEDA looks from a namespace of its own.
    servers = environment["SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS"]
    assert servers.endswith(f".{namespace}.svc.cluster.local:9092")
    (routes,) = of_kind(objects, "Ingress").values()
    hosts = [rule["host"] for rule in routes["spec"]["rules"]]
    assert routes["spec"]["tls"][0]["hosts"] == hosts
    assert environment["SLIPSTREAM_HTTP__HOSTS"] in hosts
    for scaler in of_kind(objects, "ScaledObject").values():
        for trigger in scaler["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                assert f'namespace="{namespace}"' in trigger["metadata"]["query"]


@pytest.mark.parametrize("name", ["staging", "production"])
def test_an_overlay_has_the_password_of_keda_that_a_page_shows(name: str) -> None:
    shown, overlaid = built("scaled by the lag of an operator's Kafka"), overlay(name)
    (known,) = of_kind(shown, "TriggerAuthentication").values()
    (own,) = of_kind(overlaid, "TriggerAuthentication").values()
    assert own["spec"] == known["spec"]
    triggers, theirs = (
        of_kind(objects, "ScaledObject")["features"]["spec"]["triggers"]
        for objects in (shown, overlaid)
    )
    assert triggers == theirs
    assert all(trigger["authenticationRef"] == {"name": "kafka"} for trigger in triggers)


def test_keda_watches_the_topics_that_features_consumes() -> None:
    objects = combination("keda")
    scaler = of_kind(objects, "ScaledObject")["features"]["spec"]
    watched = [trigger["metadata"] for trigger in scaler["triggers"]]
    namespace = _environment(objects, "features")["SLIPSTREAM_NAMESPACE"]
    in_its_group = [t for t in TOPICS if "features" in t.consumers and t.name != "access-keys.v1"]
    assert {w["topic"] for w in watched} == {physical(namespace, topic) for topic in in_its_group}
    assert {w["consumerGroup"] for w in watched} == {f"{namespace}.features"}
    assert scaler["maxReplicaCount"] == INTERACTIONS.partitions
    query = of_kind(objects, "ScaledObject")["serving"]["spec"]["triggers"][0]["metadata"]["query"]
    metrics = (KUBERNETES.parents[1] / "slipstream/chassis/metrics.py").read_text()
    assert f'"{re.findall(r"slipstream_[a-z_]+(?=_count)", query)[0]}"' in metrics


def test_strimzi_has_the_settings_of_the_base() -> None:
    objects = combination("strimzi")
    settings = _environment(objects, "serving")
    topics = of_kind(objects, "KafkaTopic")
    assert set(topics) == {physical(settings["SLIPSTREAM_NAMESPACE"], t) for t in TOPICS}
    replicas = {topic["spec"]["replicas"] for topic in topics.values()}
    assert replicas == {int(settings["SLIPSTREAM_KAFKA__REPLICATION_FACTOR"])}
    assert {f"slipstream-{service}" for service in SERVICES} == set(of_kind(objects, "KafkaUser"))


@pytest.mark.parametrize("component", ["ingress", "gateway"])
def test_only_public_services_and_their_versioned_paths_are_routed(component: str) -> None:
    objects = combination(component)
    routed = {}
    for route in of_kind(objects, "HTTPRoute").values():
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", ()):
                assert backend["port"] == SERVICES[backend["name"]].port
                routed[backend["name"]] = [m["path"]["value"] for m in rule["matches"]]
    for ingress in of_kind(objects, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                assert service["port"] == {"name": "http"}
                routed.setdefault(service["name"], []).append(path["path"])
    assert set(routed) == {name for name, service in SERVICES.items() if service.public}
    assert routed == {"ingestion": ["/v1"], "serving": ["/v1", "/v2"]}
