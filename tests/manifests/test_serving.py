"""Serving from zero, and as an InferenceService: made from its Deployment."""

from slipstream.contracts.services import SERVICES
from tests.manifests.installations import combination, of_kind, overlay, pod_templates


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
