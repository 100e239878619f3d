"""Serving from zero, as an InferenceService and as a Rollout: made from its Deployment."""

from urllib.parse import urlsplit

import click
import pytest

from slipstream.contracts.services import SERVICES
from slipstream_cli.__main__ import cli
from tests.manifests.installations import combination, of_kind, overlay, pod_templates
from tests.manifests.network import Pod, may_connect


def test_from_zero_serving_is_scaled_by_its_route_alone_and_may_sleep() -> None:
    objects = combination("hpa", "keda", "serving-to-zero")
    scalers = of_kind(objects, "ScaledObject", "HorizontalPodAutoscaler")
    assert set(scalers) == {"ingestion", "features", "serving-to-zero"}
    (route,) = of_kind(objects, "InterceptorRoute").values()
    spec = scalers["serving-to-zero"]["spec"]
    assert spec["minReplicaCount"] == 0
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["interceptorRoute"] == route["metadata"]["name"]
    target = route["spec"]["target"]
    assert target == {"service": "serving", "port": SERVICES["serving"].port}
    (rule,) = route["spec"]["rules"]
    services = of_kind(objects, "Service")
    assert set(rule["hosts"]) <= {n for n, o in services.items() if "externalName" in o["spec"]}
    (settings,) = of_kind(objects, "ConfigMap").values()
    assert settings["data"]["SLIPSTREAM_MONITORING__MAY_SLEEP"] == "serving"


def test_an_overlay_lists_the_services_that_it_scales_to_zero() -> None:
    objects = overlay("staging")
    maps = of_kind(objects, "ConfigMap").items()
    (settings,) = (o for name, o in maps if name.startswith("slipstream-settings"))
    scaled = of_kind(objects, "ScaledObject").values()
    to_zero = {
        o["spec"]["scaleTargetRef"]["name"] for o in scaled if not o["spec"]["minReplicaCount"]
    }
    assert {settings["data"]["SLIPSTREAM_MONITORING__MAY_SLEEP"]} == to_zero


def test_kserve_runs_the_pods_of_the_deployment_behind_the_same_service() -> None:
    plain = combination("network-policies", "serving-to-zero")
    objects = combination("network-policies", "serving-to-zero", "kserve")
    (deployment,) = (t for n, t in pod_templates(plain).items() if n == "Deployment/serving")
    assert "serving" not in of_kind(objects, "Deployment")
    (service,) = of_kind(objects, "InferenceService").values()
    predictor = service["spec"]["predictor"]
    assert predictor.items() >= deployment["spec"].items()
    assert predictor["labels"] == deployment["metadata"]["labels"]
    assert service["metadata"]["annotations"] == {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "external",
    }
    scaler = of_kind(objects, "ScaledObject")["serving-to-zero"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "serving-predictor"
    kinds = ("Service", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount")
    assert of_kind(objects, *kinds) == of_kind(plain, *kinds)


@pytest.mark.parametrize("scaler", ["hpa", "keda", "serving-to-zero"])
def test_a_rollout_takes_the_deployments_pods_and_is_what_is_scaled(scaler: str) -> None:
    objects = combination("network-policies", scaler, "rollouts")
    rollout = of_kind(objects, "Rollout")["serving"]["spec"]
    deployment = of_kind(objects, "Deployment")["serving"]["spec"]
    assert rollout["workloadRef"]["name"] == "serving"
    assert rollout["selector"] == deployment["selector"]
    assert "replicas" not in rollout and "replicas" not in deployment
    scaled = {
        o["spec"]["scaleTargetRef"]["name"]: o["spec"]["scaleTargetRef"]["kind"]
        for o in of_kind(objects, "ScaledObject", "HorizontalPodAutoscaler").values()
    }
    assert scaled["serving"] == "Rollout"


def test_the_analysis_compares_the_rollouts_two_services_by_the_new_release() -> None:
    objects = combination("network-policies", "rollouts")
    canary = of_kind(objects, "Rollout")["serving"]["spec"]["strategy"]["canary"]
    services = of_kind(objects, "Service")
    names = {canary["stableService"], canary["canaryService"]}
    assert all(services[name]["spec"]["clusterIP"] == "None" for name in names)
    templates = {
        t["templateName"]
        for s in canary["steps"]
        if "analysis" in s
        for t in s["analysis"]["templates"]
    }
    assert templates == set(of_kind(objects, "AnalysisTemplate"))
    pods = pod_templates(objects)
    job, serving = pods["AnalysisTemplate/serving-releases"], pods["Deployment/serving"]
    (container,) = job["spec"]["containers"]
    assert container["image"] == serving["spec"]["containers"][0]["image"]
    arguments = container["command"][1:] + container["args"]
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    with command.make_context("compare", arguments) as context:
        assert {urlsplit(context.params[side]).hostname for side in ("stable", "canary")} == names
        assert urlsplit(context.params["canary"]).port == SERVICES["serving"].port
    policies = list(of_kind(objects, "NetworkPolicy").values())
    labels = Pod(job["metadata"]["labels"])
    assert may_connect(policies, labels, Pod(serving["metadata"]["labels"]), 8004)
    assert not may_connect(
        policies, labels, Pod(pods["Deployment/training"]["metadata"]["labels"]), 8003
    )
