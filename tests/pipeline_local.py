"""`make pipeline-local`: the committed Kubeflow pipeline against `slipstream up`, without Kubeflow.

The commands of its containers run here, in the order of the IR. A shop is trained twice, each time
from a copy of its data. The second time, a step and the run's own process are killed half-way. Both
must make the same bundle but for its time.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import yaml

from generate.pipelines import KUBEFLOW
from tests.e2e.stack import Stack, caught_up, children, running, wait_for
from tests.servers import Outside

IR: Final[dict[str, Any]] = next(yaml.safe_load_all(Path(KUBEFLOW).read_text("utf-8")))
# Nothing starts a run but the pipeline.
OFF: Final = ("SCHEDULE_MINUTES", "NEW_EVENTS", "CATALOG_CHANGES", "NICENESS")
SETTINGS: Final = {f"SLIPSTREAM_TRAINING__{name}": "0" for name in OFF}
OF_A_RUN: Final = {"version", "created_at"}  # fields of a manifest that two runs never share
SHOP: Final = ("--visitors", "300", "--items", "60", "--events", "7000")  # enough for epochs


def slipstream(*words: object, **environment: str) -> "subprocess.Popen[bytes]":
    """A command of `slipstream` that has begun."""
    command = [sys.executable, "-m", "slipstream_cli", *map(str, words)]
    return subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE)


class Pipeline:
    """A run of the IR. The step `killed` is killed once, and the run's process with it."""

    def __init__(self, stack: Stack, folder: Path, key: str, killed: str = "") -> None:
        self.stack, self.folder, self.key, self.killed = stack, folder, key, killed
        self.outputs: dict[str, str] = {}
        asked = ("training", "serving", "monitoring")
        self.urls = {f"SLIPSTREAM_PEERS__{it.upper()}_URL": stack.urls[it] for it in asked}

    def run(self, tasks: dict[str, Any]) -> None:
        """Run the tasks of a DAG, and the condition's where the gate has promoted."""
        for name, task in tasks.items():  # each stands after those that it depends on
            component = IR["components"][task["componentRef"]["name"]]
            if "dag" not in component:
                container = IR["deploymentSpec"]["executors"][component["executorLabel"]]
                self.step(name, component, container["container"]["args"])
            elif self.outputs["decision"] == "promoted":
                self.run(component["dag"]["tasks"])

    def step(self, name: str, component: dict[str, Any], words: list[str]) -> None:
        """Run a container's command, again where it was killed."""
        outputs = component.get("outputDefinitions", {"parameters": ()})["parameters"]
        files = {output: self.folder / name / output for output in outputs}
        given = {"key": self.key, "profile": "fast", "minutes": "0"}
        values = {f"inputs.parameters['{it}']": value for it, value in given.items()}
        values |= {f"outputs.parameters['{it}'].output_file": str(files[it]) for it in files}
        for mark, value in values.items():
            words = [word.replace(f"{{{{$.{mark}}}}}", value) for word in words]
        began = time.monotonic()
        while True:
            process = slipstream(*words, **self.urls)
            if name != self.killed:
                break
            self.kill(process)
        told = " ".join(process.communicate()[0].decode().split())[:120]
        assert process.returncode == 0, f"{name} ended with {process.returncode}"
        self.outputs |= {output: file.read_text("utf-8") for output, file in files.items()}
        print(f"  {name:9} {time.monotonic() - began:6.1f} s  {told}", flush=True)

    def kill(self, step: "subprocess.Popen[bytes]") -> None:
        """Kill the step, and the run's process once its network has two epochs."""
        self.killed = ""
        path = f"/v1/runs/{self.key}"
        wait_for(lambda: (self.stack.get("training", path)["epoch"] or 0) >= 2, "epochs", 900)
        for _, pid in children(self.stack.children["training"]):
            os.kill(pid, signal.SIGKILL)
        step.kill()
        step.communicate()
        print("  killed: the run's process after an epoch, and the step", flush=True)


def main() -> None:
    """Make the shop, train it twice, and compare."""
    with tempfile.TemporaryDirectory(prefix="pipeline-") as place:
        folder, manifests = Path(place), []
        (folder / "shop").mkdir()
        slipstream("simulate", folder / "files", *SHOP).communicate()
        with running(folder / "shop", Outside({}, {}), **SETTINGS) as stack:
            files = (folder / "files").glob("*.parquet")
            slipstream("import", *files, "--yes", "--data-dir", folder / "shop").communicate()
            wait_for(lambda: caught_up(stack), "features to catch up")
            stack.stop()
        for key, killed in (("whole", ""), ("killed", "train")):
            print(f"pipeline {key}", flush=True)
            shutil.copytree(folder / "shop", folder / key)
            with running(folder / key, Outside({}, {}), **SETTINGS) as stack:
                pipeline = Pipeline(stack, folder / f"outputs-{key}", key, killed)
                pipeline.run(IR["root"]["dag"]["tasks"])
                run, steps = (stack.get("training", f"/v1/runs/{key}{it}") for it in ("", "/steps"))
                path = f"/v1/models/{run['model_version']}/files/manifest.json"
                manifests.append(stack.get("training", path))
                manifests[-1]["files"].pop("MLmodel")  # it has the version and the time
                stack.stop()
            spent = sum(step["processor_s"] for step in steps["steps"])
            starts = {step["name"]: len(step["usage"]) for step in steps["steps"]}
            took = f"{spent:.0f} s of processors"
            print(f"  attempt {run['attempt']}, starts {starts}, {took}", flush=True)
        whole, other = manifests
        different = {name for name in whole if whole[name] != other[name]}
        assert different == OF_A_RUN, f"the bundles differ in {different}"
        print(f"the same bundle but for {', '.join(sorted(OF_A_RUN))}: {len(whole['files'])} files")


if __name__ == "__main__":
    main()
