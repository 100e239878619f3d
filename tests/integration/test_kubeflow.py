"""Kubeflow's own compiler makes the pipeline that is committed."""

import json
import subprocess
from pathlib import Path

from generate.pipelines import KUBEFLOW, for_kubeflow
from tests.integration.client_environments import ROOT, needs_environment, python_of


@needs_environment("kfp")
def test_kfp_compiles_the_pipeline_that_is_committed(tmp_path: Path) -> None:
    written = tmp_path / "kubeflow.yaml"
    subprocess.run(
        [python_of("kfp"), ROOT / "generate" / "kubeflow.py", written],
        input=json.dumps(for_kubeflow(ROOT)),
        text=True,
        timeout=240,
        check=True,
    )
    assert written.read_text() == (ROOT / KUBEFLOW).read_text(), "run `make kubeflow`"
