"""`make manifests`: builds every overlay and installation, and has all of them validated."""

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import click
import yaml

from tests.manifests.installations import INSTALLATIONS, OVERLAYS, built

# Groups of the kinds that a cluster with KEDA knows; others are validated by their schemas alone.
KNOWN_GROUPS: Final = ("", "apps", "autoscaling", "batch", "networking.k8s.io", "policy", "keda.sh")
NAMESPACE: Final = "slipstream-manifests"
# With this label, the API server warns of a workload with pods that PodSecurity would refuse.
WARN: Final = "pod-security.kubernetes.io/warn"


@click.command()
@click.option(
    "--validator",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Program that validates files of manifests offline; without it they are built only.",
)
@click.option(
    "--kubectl",
    default="",
    help="Command of a kubectl; its cluster has a dry run of every object of Kubernetes and KEDA.",
)
def manifests(validator: Path | None, kubectl: str) -> None:
    """Build all manifests, validate them, and show how many objects there are."""
    if shutil.which("kubectl") is None:
        raise click.ClickException("kubectl is missing: kubernetes.io/docs/tasks/tools")
    with tempfile.TemporaryDirectory() as folder:
        files = _build(Path(folder))
        if validator is not None:
            status = subprocess.run([validator, *files]).returncode
            if status:
                raise click.ClickException("manifests are invalid")
        if kubectl:
            _dry_run(kubectl.split(), files)


def _build(folder: Path) -> list[Path]:
    names = [*OVERLAYS, *INSTALLATIONS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        builds = list(pool.map(built, names))
    files = []
    for name, objects in zip(names, builds, strict=True):
        files.append(folder / f"{name.replace(' ', '-')}.yaml")
        files[-1].write_text(yaml.dump_all(objects, Dumper=yaml.CSafeDumper))
    click.echo(f"{len(OVERLAYS)} overlays and {len(INSTALLATIONS)} installations build")
    return files


def _dry_run(kubectl: list[str], files: list[Path]) -> None:
    """Ask an API server whether it would take each different object, and every pod's security."""
    found = [
        {**o, "metadata": {k: v for k, v in o["metadata"].items() if k != "namespace"}}
        for file in files
        for o in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
        if _is_known(o)
    ]
    different = {yaml.dump(o, Dumper=yaml.CSafeDumper) for o in found}
    click.echo(f"{len(found)} objects, {len(different)} of them different, to the API server")
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {WARN: "restricted"}},
    }
    apply = [*kubectl, "apply", "--server-side", "--warnings-as-errors", "-f", "-"]
    _run(apply, yaml.dump(namespace))
    try:
        answers = _run(
            [*apply, "--dry-run=server", "-n", NAMESPACE], "---\n".join(sorted(different))
        )
    finally:
        _run([*kubectl, "delete", "namespace", NAMESPACE, "--wait=false"], "")
    taken = answers.count("(server dry run)")
    click.echo(f"{taken} taken, {len(different) - taken} refused")
    if taken != len(different):
        raise click.ClickException("the API server refuses manifests")


def _is_known(o: dict[str, Any]) -> bool:
    group = o["apiVersion"].rpartition("/")[0]
    return group in KNOWN_GROUPS


def _run(command: list[str], text: str) -> str:
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=600)
    if ended.returncode:
        raise click.ClickException(f"{' '.join(command)}: {ended.stderr}")
    return ended.stdout


if __name__ == "__main__":
    manifests()
