"""Kubeflow's own compiler makes the pipeline that `slipstream docs` has written."""

import json
from pathlib import Path

import pytest
import yaml

from slipstream_cli import pipelines
from tests.integration.client_environments import ROOT, needs_environment, run_client


@needs_environment("kfp")
def test_kfp_compiles_the_pipeline_that_is_committed(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    committed = ROOT / pipelines.KUBEFLOW
    executors = next(yaml.safe_load_all(committed.read_text()))["deploymentSpec"]["executors"]
    told = {
        "name": pipelines.NAME,
        "image": executors["exec-start"]["container"]["image"],
        "cpu": "100m",
        "memory": "100Mi",
        "memory_limit": "200Mi",
        "urls": pipelines.URLS,
        "retries": pipelines.RETRIES,
        "tasks": [task._asdict() for task in pipelines.tasks()],
    }
    (tmp_path / "tasks.json").write_text(json.dumps(told))
    run_client("kfp", request, tmp_path / "tasks.json", committed)
