"""Pipelines that are made from the steps: words of commands that exist, and limits of pods."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from generate.pipelines import FINAL, KUBEFLOW, URLS, Task, argo, arguments, for_kubeflow, tasks
from slipstream.contracts.steps import STEPS
from slipstream_cli.__main__ import cli
from slipstream_cli.commands import run_steps

ROOT = Path(__file__).parents[3]
NAMES = ["start", *(kind.name for kind in STEPS), "watch"]


def kubeflow() -> dict[str, dict[str, Any]]:
    """The containers of the pipeline that Kubeflow's compiler made, by task."""
    pipeline = next(yaml.safe_load_all((ROOT / KUBEFLOW).read_text("utf-8")))
    executors = pipeline["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): it["container"] for name, it in executors.items()}


def containers() -> dict[str, dict[str, Any]]:
    """Every container of both engines."""
    template = argo()[0]["spec"]["templates"]
    of_argo = {f"argo {it['name']}": it["container"] for it in template if "container" in it}
    return of_argo | {f"kubeflow {name}": container for name, container in kubeflow().items()}


def test_tasks_are_the_start_and_every_step() -> None:
    assert [task.name for task in tasks()] == NAMES
    assert [task.name for task in tasks() if task.if_promoted] == NAMES[NAMES.index("gate") + 1 :]
    assert len(containers()) == 2 * len(NAMES)


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task.name)
def test_words_are_a_command_that_the_command_line_takes(
    task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_steps, "PATIENCE_S", 0.0)
    files = {name: str(tmp_path / name) for name in task.outputs}
    words = arguments(task, {"key": "k", "profile": "best", "minutes": "0"}, files)
    assert "{" not in "".join(words)
    ran = CliRunner().invoke(cli, [*words, "--url", "http://127.0.0.1:9"])
    assert ran.exit_code == 1 and "training at http://127.0.0.1:9" in ran.output


def test_the_compiled_pipeline_has_the_tasks_of_today() -> None:
    """`make clients` compiles it again; this notices without the compiler."""
    compiled = kubeflow()
    for task in tasks():
        parameters = {
            name: f"{{{{$.inputs.parameters['{name}']}}}}" for name in ("key", "profile", "minutes")
        }
        files = {
            name: f"{{{{$.outputs.parameters['{name}'].output_file}}}}" for name in task.outputs
        }
        assert compiled[task.name]["args"] == arguments(task, parameters, files), "make kubeflow"
        assert compiled[task.name]["image"] == for_kubeflow(ROOT)["image"]
        assert {it["name"]: it["value"] for it in compiled[task.name]["env"]} == URLS


@pytest.mark.parametrize("name", containers())
def test_a_pod_asks_for_a_tenth_of_a_processor_and_a_hundred_mebibytes(name: str) -> None:
    resources = containers()[name]["resources"]
    asked = resources.get("requests") or {
        "cpu": resources["resourceCpuRequest"],
        "memory": resources["resourceMemoryRequest"],
    }
    assert asked == {"cpu": "100m", "memory": "100Mi"}


def test_argos_own_containers_ask_for_no_more_than_a_restricted_namespace_gives() -> None:
    patch = json.loads(argo()[0]["spec"]["podSpecPatch"])
    containers = [*patch["initContainers"], *patch["containers"]]
    own = {it["name"]: it["securityContext"] for it in containers}
    allowed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert own == {"init": allowed, "wait": allowed}


def test_argo_goes_on_after_a_refusal_without_what_follows() -> None:
    template, schedule = argo()
    main = template["spec"]["templates"][0]
    steps = {step["name"]: step for step in main["dag"]["tasks"]}
    assert list(steps) == NAMES
    assert [name for name, step in steps.items() if "when" in step] == ["promote", "watch"]
    assert steps["promote"]["depends"] == "gate.Succeeded"
    outputs = {it["name"]: it for it in template["spec"]["templates"]}["gate"]["outputs"]
    assert "decision" in {it["name"] for it in outputs["parameters"]}
    assert schedule["spec"]["suspend"] is True
    for step in template["spec"]["templates"][1:]:
        assert str(list(FINAL)) in step["retryStrategy"]["expression"]
