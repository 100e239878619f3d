"""`slipstream bench`: the benchmarks of `bench/`, which only a checkout of the repository has."""

import shlex
import sys
from pathlib import Path

import click

# The repository's root, unless this package was installed from a wheel.
_ROOT = Path(__file__).parents[2]


def bench_command(root: Path = _ROOT) -> click.Command:
    """Load the command from `bench/` in the checkout at `root`.

    Without that folder, the command only says how to get it.
    """
    if (root / "bench" / "command.py").exists():
        # The path of the `slipstream` script has the three installed packages, and not the root.
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        from bench.command import bench

        return bench
    return click.Command(
        "bench",
        callback=_explain_absence,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
        short_help="Compare a part's speed with its ceiling (from a clone of the repository).",
    )


def _explain_absence(arguments: tuple[str, ...]) -> None:
    raise click.ClickException(
        "benchmarks are not part of the installed package or of the images. Clone the repository,"
        " and run in it:\n"
        "  make install\n"
        f"  .venv/bin/slipstream bench {shlex.join(arguments)}"
    )
