"""`make compose-demo`, with a report."""

import tempfile
import time
from pathlib import Path

import click

from slipstream_cli.demo.preparation import DemoError
from tests.compose.project import ComposeError, from_nothing
from tests.compose.scenario import run


@click.command()
@click.option(
    "--movielens",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with MovieLens-100K. Default: fetched, as `slipstream demo` does.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the containers running (docker compose -p slipstream-demo down -v ends them).",
)
def main(movielens: Path | None, keep: bool) -> None:
    """Build and start docker-compose.yml from nothing, run the demo on it, and crash each container
    once under load. Scale out behind the proxy, crash one of each kind again, and compare what is
    kept with what was accepted.

    Needs a Docker engine, Docker Compose 2.24 or newer, the ports 8001 to 8005 and 9090, and a
    package index. It runs under a project name of its own, so that the volumes of whoever uses the
    file stay as they are.
    """
    start = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="slipstream-compose-") as folder,
            from_nothing(keep=keep) as project,
        ):
            result = run(project, Path(folder), movielens)
    except (ComposeError, DemoError) as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(result.lines()))
    click.echo(f"{'all in all':<32} {time.monotonic() - start:.0f} s")
    if faults := list(result.findings.lines()):
        raise click.ClickException("not exact:\n" + "\n".join(faults))
    click.echo("Every accepted event is in the lake exactly once, and counted once in Redis.")


if __name__ == "__main__":
    main()
