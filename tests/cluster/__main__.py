"""`make cluster-demo` and `make pipeline-demo`, with a report."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from slipstream.datasets.simulator import Simulation, simulate
from tests.cluster import overlay
from tests.cluster.bed import Bed
from tests.cluster.forwarding import Forwards
from tests.cluster.images import build, build_before
from tests.cluster.kubectl import NAMESPACE, ClusterError, Kubectl
from tests.cluster.load import pods
from tests.cluster.machine import NoClusterError, cluster, lacking
from tests.cluster.parts import (
    argo,
    kills,
    kserve,
    network,
    promotion,
    resources,
    scaling,
    start,
    trainer,
    updates,
    zero,
)
from tests.cluster.report import Part, Report
from tests.cluster.usage import Usage
from tests.faults.troubles.versions import version_before

# The parts that may be left out, in their order. The first one is always run, the last one judges
# what all used.
PARTS: dict[str, tuple[str, Callable[[Bed, Part], None]]] = {
    "kills": (kills.TITLE, kills.run),
    "updates": (updates.TITLE, updates.run),
    "scaling": (scaling.TITLE, scaling.run),
    "network": (network.TITLE, network.run),
    "promotion": (promotion.TITLE, promotion.run),
    "argo": (argo.TITLE, argo.run),
    "zero": (zero.TITLE, zero.run),
    "kserve": (kserve.TITLE, kserve.run),
    "trainer": (trainer.TITLE, trainer.run),
}
# Parts that run only when they are named, with what CLUSTER_PROGRAM starts for each.
CONTROLLERS = {
    "argo": "--argo",
    "zero": "--http-scaling",
    "kserve": "--kserve",
    "trainer": "--trainer",
}


@click.command()
@click.option(
    "--parts",
    default=",".join(name for name in PARTS if name not in CONTROLLERS),
    show_default=True,
    help="Parts to run in addition to the start and the resources, separated by commas.",
)
@click.option("--tag", default="local", show_default=True, help="Of the images of this version.")
@click.option(
    "--before",
    default="before",
    show_default=True,
    help="Tag of the images of the version before this one.",
)
@click.option(
    "--build/--no-build",
    "building",
    default=True,
    show_default=True,
    help="Whether to build the images first; without, the cluster or the Docker engine has them.",
)
@click.option("--report", "file", type=Path, help="File for the report as JSON.")
@click.option("--keep", is_flag=True, help="Leave the overlay on KUBECONFIG's cluster.")
@click.option(
    "--rate", type=float, default=300.0, show_default=True, help="Events a second under load."
)
@click.option("--events", type=int, default=20_000, show_default=True, help="Of the history.")
@click.option("--wakes", default=3, show_default=True, help="Times that `zero` wakes serving.")
@click.option("--visitors", type=int, default=1_500, show_default=True)
@click.option("--items", type=int, default=400, show_default=True)
def main(
    parts: str,
    tag: str,
    before: str,
    building: bool,
    file: Path | None,
    keep: bool,
    rate: float,
    events: int,
    wakes: int,
    visitors: int,
    items: int,
) -> None:
    """Run the local overlay on a cluster, from nothing, and show what it withstands.

    The cluster is KUBECONFIG's, which must have the images and no namespace `slipstream`, or one
    that CLUSTER_PROGRAM starts. What the demo made is deleted at the end.
    """
    chosen = [name for name in parts.split(",") if name]
    if unknown := set(chosen) - set(PARTS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if "updates" in chosen and not version_before():
        click.echo("left out: updates, as git finds no version before (git fetch --unshallow)")
        chosen.remove("updates")
    before = before if "updates" in chosen else ""
    servers, own = overlay.server_images(), _own_images(tag, before)
    if found := lacking([*servers, *([] if building else own)], building=building):
        click.echo(f"skipped: this is lacking: {'; '.join(found)}")
        return
    report, begun = Report(), time.monotonic()
    try:
        if building:
            _build(tag, before)
        needed = [CONTROLLERS[name] for name in chosen if name in CONTROLLERS]
        with cluster([*servers, *own], needed) as kubectl, tempfile.TemporaryDirectory() as folder:
            files = simulate(Path(folder) / "shop", Simulation(visitors, items, events, seed=1))
            with _namespaces(kubectl, keep=keep):
                services = Forwards(kubectl)
                bed = Bed(kubectl, services, Path(folder), files, tag, before, rate, wakes)
                _run(report, bed, chosen)
    except NoClusterError as error:
        click.echo(f"skipped: {error}")
        return
    except ClusterError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n" + report.table())
    click.echo(f"{'all in all':<36} {time.monotonic() - begun:.0f} s")
    if file is not None:
        file.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    if report.faults:
        raise click.ClickException("not as it must be:\n" + "\n".join(report.faults))
    click.echo("All as it must be.")


def _own_images(tag: str, before: str) -> list[str]:
    """The services' images that nodes need. An empty `before` is not needed."""
    return [*overlay.images(tag), *(overlay.images(before) if before else [])]


def _build(tag: str, before: str) -> None:
    click.echo(f"building the images of {tag}")
    build(tag)
    if before:
        click.echo(f"building the images of {before}")
        click.echo(f"  {before} is {build_before(before)[:12]}")


@contextmanager
def _namespaces(kubectl: Kubectl, *, keep: bool) -> Iterator[None]:
    """The namespace of the clients, and that of the overlay, which must not be there yet; both are
    deleted at the end.
    """
    there = {item["metadata"]["name"] for item in kubectl.get("namespaces")["items"]}
    if NAMESPACE in there:
        raise ClusterError(f"the cluster has a namespace {NAMESPACE}: the demo would delete it")
    pods.make_namespaces(kubectl)
    try:
        yield
    finally:
        if not keep:
            kubectl.run(
                *("delete", "namespace", "--ignore-not-found", "--timeout=90s"),
                *(NAMESPACE, pods.CLIENTS, pods.STRANGERS),
            )


def _run(report: Report, bed: Bed, chosen: list[str]) -> None:
    usage = Usage(bed.kubectl)
    usage.start()
    try:
        with report.part("start", start.TITLE) as part:
            start.run(bed, part)
        if not part.faults:
            for name in (name for name in PARTS if name in chosen):
                title, run = PARTS[name]
                with report.part(name, title) as part:
                    run(bed, part)
    finally:
        usage.stop()
        bed.services.close()
    with report.part("resources", resources.TITLE) as part:
        resources.judge(bed, part, usage)


if __name__ == "__main__":
    main()
