"""The Kubernetes manifest is valid, and agrees with the settings and the compose file."""

import re
from typing import Any

import pytest
import yaml

from service.settings import Settings
from service.telemetry import Telemetry
from tests.deploy.files import ROOT, read_yaml

FOLDER = ROOT / "deploy" / "kubernetes"
OBJECTS: dict[str, dict[str, Any]] = {
    each["kind"]: each for each in yaml.safe_load_all((FOLDER / "affect.yaml").read_text(encoding="utf-8"))
}
POD: dict[str, Any] = OBJECTS["Deployment"]["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]
COMPOSE = read_yaml(ROOT / "docker-compose.yml")["services"]["affect"]


def test_there_is_one_object_of_each_kind() -> None:
    assert list(OBJECTS) == ["Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"]


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_an_object_follows_its_schema(kind: str, version: str) -> None:
    import kubernetes_validate  # brings jsonschema, which compiles the grammars of all formats

    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


def test_a_mistake_would_be_found() -> None:
    import kubernetes_validate

    wrong = OBJECTS["Service"] | {"spec": OBJECTS["Service"]["spec"] | {"port": 80}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_selectors_find_the_pods() -> None:
    labels = POD["metadata"]["labels"]
    assert OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    scaled = OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", OBJECTS["Deployment"]["metadata"]["name"])


def test_pods_are_as_locked_down_as_compose_containers() -> None:
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert CONTAINER["image"] == COMPOSE["image"]
    assert CONTAINER["resources"]["limits"]["memory"] == "4Gi"
    assert COMPOSE["mem_limit"] == "4g"


def test_a_pod_may_drain() -> None:
    assert POD["spec"]["terminationGracePeriodSeconds"] > Settings.model_fields["drain_s"].default


def test_probes_wait_for_a_forward_pass() -> None:
    for probe in ("startupProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"]["path"] == "/readyz"
        assert CONTAINER[probe]["timeoutSeconds"] > 5  # readiness.PROBE_TIMEOUT_S
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_the_autoscaler_asks_for_a_metric_that_the_service_has() -> None:
    [rule] = read_yaml(FOLDER / "prometheus-adapter.yaml")["rules"]
    [metric] = OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    telemetry = Telemetry()
    telemetry.batch(1, {"interactive": [0.1]}, 0.1)
    told = telemetry.render().decode()
    for name in set(re.findall(r"affect_\w+(?=\{)", rule["metricsQuery"] + rule["seriesQuery"])):
        assert f"\n{name}{{" in told
