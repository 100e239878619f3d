"""Runs in kfp's environment: compiles the tasks of a pipeline, and compares with the committed IR.

`kfp_client.py TASKS IR`: a file of JSON with the tasks, and the IR that `slipstream docs` wrote.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import kfp
import yaml
from kfp import compiler, dsl, kubernetes


def component(task: dict[str, Any], image: str) -> Any:
    """A container component with the task's parameters, by name."""
    used = [word.strip("{}") for word in task["words"] if word.startswith("{")]
    given = [f"{name}: str" for name in used] + [
        f"{name}: OutputPath(str)" for name in task["outputs"]
    ]
    words = [word.strip("{}") if word.startswith("{") else repr(word) for word in task["words"]]
    for name in task["outputs"]:
        words += ["'--output'", f"f'{name}={{{name}}}'"]
    returned = f"ContainerSpec(image={image!r}, command=['slipstream'], args=[{', '.join(words)}])"
    code = f"def {task['name']}({', '.join(given)}):\n    return {returned}"
    scope: dict[str, Any] = {"OutputPath": dsl.OutputPath, "ContainerSpec": dsl.ContainerSpec}
    exec(code, scope)  # noqa: S102 - kfp reads the parameters from a signature
    return dsl.container_component(scope[task["name"]])


def compiled(told: dict[str, Any]) -> list[Any]:
    """The documents that kfp makes of the tasks."""

    def after(before: Any, task: dict[str, Any], values: dict[str, Any]) -> Any:
        made = component(task, told["image"])
        used = [word.strip("{}") for word in task["words"] if word.startswith("{")]
        asked = made(**{name: values[name] for name in used})
        asked.set_cpu_request(told["cpu"]).set_memory_request(told["memory"])
        asked.set_memory_limit(told["memory_limit"])
        for name, url in told["urls"].items():
            asked.set_env_variable(name, url)
        asked.set_caching_options(False).set_retry(told["retries"], backoff_duration="5s")
        kubernetes.use_secret_as_env(
            asked,
            secret_name="slipstream-secrets",
            secret_key_to_env={"http-api-token": "SLIPSTREAM_HTTP__API_TOKEN"},
        )
        return asked.after(before) if before is not None else asked

    @dsl.pipeline(name=told["name"])
    def pipeline(key: str, profile: str = "fast", minutes: str = "10") -> None:
        values, made = {"key": key, "profile": profile, "minutes": minutes}, dict[str, Any]()
        last = None
        for task in told["tasks"]:
            if not task["if_promoted"]:
                last = made[task["name"]] = after(last, task, values)
        with dsl.If(made["gate"].outputs["decision"] == "promoted", name="promoted"):
            last = None
            for task in told["tasks"]:
                if task["if_promoted"]:
                    last = after(last, task, values)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return list(yaml.safe_load_all(path.read_text()))


told = json.loads(Path(sys.argv[1]).read_text())
ours, theirs = list(yaml.safe_load_all(Path(sys.argv[2]).read_text())), compiled(told)
if ours != theirs:
    for mine, kfps in zip(ours, theirs, strict=True):
        print(yaml.safe_dump(mine), yaml.safe_dump(kfps), sep="\n--- kfp compiles:\n")
    sys.exit(1)
names = list(ours[0]["deploymentSpec"]["executors"])
print(f"kfp {kfp.__version__} compiles the committed pipeline: {len(names)} tasks")
