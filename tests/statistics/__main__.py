"""`make statistics`: confidence sequences on thousands of simulated experiments, as a table.

Every experiment is looked at after each of its visitors. A bar that is missed ends the program with
status 1.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import click
import numpy as np

from tests.statistics.trials import (
    LIFTS,
    TRIALS,
    Looks,
    Shelf,
    looks,
    needed_by_fixed_horizon,
    needed_by_split,
    repeated,
    returning,
    uneven_at,
)

# 5 %, and what chance adds in 2,000 experiments.
MOST_FALSE: Final = 0.06
LEAST_COVERED: Final = 0.94
# A shelf on which nearly every visitor with an intent finds something, on either list.
RICH: Final = Shelf((0.20, 0.24))
# One on which hardly any does.
POOR: Final = Shelf((0.02, 0.024))


class Row(NamedTuple):
    """A line of the table; `is_met` is None where there is no bar."""

    name: str
    found: str
    bar: str = ""
    is_met: bool | None = None


def _run(title: str, count: int, trial: Callable[[int], Any], *, quiet: bool) -> list[Any]:
    with click.progressbar(
        length=count, label=f"{title:<34}", file=sys.stderr, hidden=quiet
    ) as bar:
        return list(repeated(count, trial, lambda: bar.update(1)))


def _share(values: list[bool]) -> float:
    return sum(values) / len(values)


def _false_alarms(found: list[Looks]) -> Iterator[Row]:
    for trial in TRIALS:
        share = _share([each.missed[trial.name] for each in found])
        fixed = _share([each.missed_by_fixed[trial.name] for each in found])
        yield Row(
            f"false alarms: {trial.name}",
            f"{share:.2%} (fixed horizon: {fixed:.0%})",
            f"<= {MOST_FALSE:.0%}",
            share <= MOST_FALSE,
        )


def _covered(found: list[Looks]) -> Iterator[Row]:
    for trial in TRIALS:
        share = 1 - _share([each.missed[trial.name] for each in found])
        yield Row(
            f"lifts covered: {trial.name}",
            f"{share:.2%}",
            f">= {LEAST_COVERED:.0%}",
            share >= LEAST_COVERED,
        )
    explained = float(np.mean([each.explained for each in found]))
    yield Row("variance that visitors' past explains", f"{explained:.0%}")


def _shares(count: int, *, quiet: bool) -> Iterator[Row]:
    uneven = _run("shares, 55:45", count, partial(uneven_at, n=5_000, share=0.55), quiet=quiet)
    even = _run("shares, 50:50", count, partial(uneven_at, n=20_000, share=0.5), quiet=quiet)
    found = [at for at in uneven if at is not None]
    share, false = len(found) / count, _share([at is not None for at in even])
    yield Row(
        "55:45 found within 5,000 visitors",
        f"{share:.2%}, half of them by {np.median(found):,.0f}",
        ">= 95%",
        share >= 0.95,
    )
    # .1 %, and what chance adds.
    yield Row("50:50 called uneven, 20,000 visitors", f"{false:.2%}", "<= 0.25%", false <= 0.0025)


def _needed(shelf: Shelf, title: str, count: int, most: int, *, quiet: bool) -> Iterator[Row]:
    split = _run(
        f"A/B, {title}", count, partial(_of_shelf, needed_by_split, shelf, most), quiet=quiet
    )
    fixed = needed_by_fixed_horizon(shelf)
    one, other = shelf.clicked()
    needed = [at if at is not None else most for at in split]
    within = _share([at is not None and at <= fixed for at in split])
    yield Row(f"{title}: clicks gained", f"{other / one - 1:.1%}")
    yield Row(f"{title}: A/B, fixed horizon (80 % power)", f"{fixed:,} visitors")
    yield Row(
        f"{title}: A/B, looked at after each",
        f"{np.median(needed):,.0f} visitors in half of the tests, "
        f"{np.quantile(needed, 0.8):,.0f} in 80 %; {within:.0%} end by the fixed horizon",
    )


def _of_shelf(trial: Callable[..., int | None], shelf: Shelf, most: int, seed: int) -> int | None:
    return trial(shelf, seed, most)


@click.command()
@click.option("--experiments", default=2_000, show_default=True, help="Number of each kind.")
@click.option("--visitors", default=20_000, show_default=True, help="Visitors of each.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def main(experiments: int, visitors: int, quiet: bool) -> None:
    """Simulate experiments and show what their confidence sequences keep of their promise.

    Seeds are fixed: the same numbers come again. 2,000 of each kind take some minutes on one core.

    \b
    Example:  python -m tests.statistics --experiments 200
    """
    began = time.monotonic()
    rows: list[Row] = []
    nothing = partial(looks, n=visitors, lift=0.0)
    rows += _false_alarms(_run("A/A", experiments, nothing, quiet=quiet))
    back = _run(
        "A/A, visitors who come back", experiments, partial(returning, n=5_000), quiet=quiet
    )
    rows.append(
        Row(
            "false alarms: visitors who come back",
            f"{_share(back):.2%}",
            f"<= {MOST_FALSE:.0%}",
            _share(back) <= MOST_FALSE,
        )
    )

    def lifted(seed: int) -> Looks:
        return looks(1_000_000 + seed, visitors, LIFTS[seed % len(LIFTS)])

    rows += _covered(_run("true lifts", experiments, lifted, quiet=quiet))
    rows += _shares(experiments, quiet=quiet)
    few = max(20, experiments // 20)
    for shelf, title, most in ((RICH, "rich shelf", 400_000), (POOR, "poor shelf", 100_000)):
        rows += _needed(shelf, title, few, most, quiet=quiet)
    _show(rows)
    click.echo(f"{time.monotonic() - began:,.0f} s")
    sys.exit(any(row.is_met is False for row in rows))


def _show(rows: list[Row]) -> None:
    names = max(len(row.name) for row in rows)
    found = max(len(row.found) for row in rows)
    for row in rows:
        verdict = {None: "", True: "met", False: "MISSED"}[row.is_met]
        click.echo(f"{row.name:<{names}}  {row.found:<{found}}  {row.bar:<9} {verdict}".rstrip())


if __name__ == "__main__":
    main()
