"""The pipeline for Kubeflow Pipelines, in its own DSL, and compiled.

It runs in the environment of Kubeflow's compiler, without the project's packages:
`python -m generate.pipelines | .clients/kfp/bin/python generate/kubeflow.py FILE`.
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, dsl, kubernetes


def component(task: dict[str, Any], image: str) -> Any:
    """A container that runs the task's command. Kubeflow reads its parameters by its signature."""

    kinds = dict.fromkeys(used(task), str) | dict.fromkeys(task["outputs"], dsl.OutputPath(str))

    def command(*placeholders: Any) -> Any:
        values = dict(zip(kinds, placeholders, strict=True))
        words = [values.get(word.strip("{}"), word) for word in task["words"]]
        for name in task["outputs"]:
            words += ["--output", f"{name}={values[name]}"]
        return dsl.ContainerSpec(image=image, command=["slipstream"], args=words)

    command.__name__ = task["name"]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
            for name, kind in kinds.items()
        ]
    )
    return dsl.container_component(command)


def used(task: dict[str, Any]) -> list[str]:
    """Names of the pipeline's parameters in the task's words."""
    return [word.strip("{}") for word in task["words"] if word.startswith("{")]


def compiled(given: dict[str, Any]) -> list[Any]:
    """The documents of the pipeline: its intermediate representation, and Kubernetes' part."""

    def chained(tasks: list[dict[str, Any]], parameters: dict[str, Any]) -> Any:
        """Put the tasks after one another; return the last."""
        last = None
        for task in tasks:
            added = component(task, given["image"])(**{key: parameters[key] for key in used(task)})
            added.set_cpu_request(given["cpu"]).set_memory_request(given["memory"])
            added.set_memory_limit(given["memory_limit"])
            added.set_caching_options(False).set_retry(given["retries"], backoff_duration="5s")
            for name, url in given["urls"].items():
                added.set_env_variable(name, url)
            kubernetes.use_secret_as_env(
                added,
                secret_name="slipstream-secrets",  # noqa: S106
                secret_key_to_env={"http-api-token": "SLIPSTREAM_HTTP__API_TOKEN"},
            )
            last = added if last is None else added.after(last)
        return last

    @dsl.pipeline(name=given["name"])  # type: ignore[untyped-decorator]
    def pipeline(key: str, profile: str = "fast", minutes: str = "10") -> None:
        parameters = {"key": key, "profile": profile, "minutes": minutes}
        gate = chained([task for task in given["tasks"] if not task["if_promoted"]], parameters)
        with dsl.If(gate.outputs["decision"] == "promoted", name="promoted"):
            chained([task for task in given["tasks"] if task["if_promoted"]], parameters)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return list(yaml.safe_load_all(path.read_text("utf-8")))


if __name__ == "__main__":
    given = json.load(sys.stdin)
    note = f"# Written by `make kubeflow` from {given['source']}; change it there.\n"
    documents = yaml.safe_dump_all(compiled(given), width=100)
    Path(sys.argv[1]).write_text(note + documents, encoding="utf-8")
