"""`slipstream answers`: make an answer again, and see what other circumstances would change."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from slipstream.contracts.times import format_time
from slipstream_cli.options import existing_file
from slipstream_cli.output import show_facts, show_table
from slipstream_cli.peers import segment
from slipstream_cli.rest_commands import call, json_flag, peer_group

_id_argument = click.argument("recommendation_id")


@peer_group("serving", short_help="Recompute past answers, as they were or with changes.")
def answers() -> None:
    """Recompute past answers, as they were or with changes, over serving's REST API.

    RECOMMENDATION_ID is that of any answer of the last 30 days (docs/replay.md). Serving recomputes
    the list from the history, model and rules that the answer was made from. The key needs the
    scope operate.

    \b
    Example:  slipstream answers show 01a21f9578e177d5bab21d15c92fda95
              slipstream answers what-if 01a21f9578e177d5bab21d15c92fda95 --diversity 0.5
    """


@answers.command("show", short_help="Recompute an answer as it was.")
@_id_argument
@json_flag
def show_answer(recommendation_id: str) -> None:
    """Recompute an answer as it was, and compare it with its record.

    \b
    Example:  slipstream answers show 01a21f9578e177d5bab21d15c92fda95
              slipstream answers show 01a21f9578e177d5bab21d15c92fda95 --json
    """
    with call().peer() as peer:
        found = peer.get(f"/v1/answers/{segment(recommendation_id)}")
    if call().shows_json(found):
        return
    rules = ", ".join(
        f"{name} revision {revision}" for name, revision in found["placements"].items()
    )
    experiment = found["experiment"] and f"{found['experiment']}, variant {found['variant']}"
    show_facts(
        [
            ("visitor", found["user_id"]),
            ("time", format_time(found["timestamp"])),
            ("model", found["model"] or "none"),
            ("rules", rules),
            ("experiment", experiment),
            ("history", f"{found['history_length']} events"),
            ("answered by", found["answered_by"]),
            ("identical", "yes" if found["identical"] else "no"),
        ]
    )
    show_table(("place", "recorded", "score", "made again", "score"), _side_by_side(found))
    for reason in found["reasons"]:
        click.echo(f"Perhaps because {reason}.")


_CHANGES = (
    click.option(
        "--model", "model_version", help="Another model version. Default: the original's."
    ),
    click.option(
        "--placement-revision",
        type=click.IntRange(min=0),
        help="Another revision of the answer's placement; 0 for no rules. Default: the original's.",
    ),
    click.option(
        "--policy",
        type=existing_file,
        help="File with another policy, as `placements set` takes it. Default: the original's.",
    ),
    click.option(
        "--without-rule",
        "without_rules",
        multiple=True,
        help="Rule to leave out; repeatable. Default: none.",
    ),
    click.option(
        "--diversity",
        type=click.FloatRange(0, 1),
        help="Another diversity. Default: the original's.",
    ),
    click.option(
        "--boost",
        "boosts",
        multiple=True,
        metavar="FACTOR:FILTER",
        help="Factor of the scores of the items that meet a filter, as in 2:brand == 'Kalo';"
        " repeatable. Default: none.",
    ),
    click.option(
        "--filter", "filter_text", help="Another filter; empty for none. Default: the original's."
    ),
)


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is to be another one than in the original answer."""
    for option in reversed(_CHANGES):
        command = option(command)
    return command


def change_of(
    policy: Path | None = None,
    without_rules: Sequence[str] = (),
    boosts: Sequence[str] = (),
    filter_text: str | None = None,
    **numbers: Any,
) -> dict[str, Any]:
    """Return the change that `change_options` name, as serving takes it.

    Raises:
        click.UsageError: They name none.
    """
    change: dict[str, Any] = {name: each for name, each in numbers.items() if each is not None}
    if policy is not None:
        change["policy"] = _read(policy)
    if without_rules:
        change["without_rules"] = list(without_rules)
    if boosts:
        change["boosts"] = [_boost(text) for text in boosts]
    if filter_text is not None:
        change["filter"] = filter_text
    if not change:
        raise click.UsageError("say what is to be another one, for example --model VERSION")
    return change


@answers.command("what-if", short_help="Recompute an answer with changes.")
@_id_argument
@change_options
@click.option(
    "--exploration",
    type=click.FloatRange(0, 1),
    help="Another exploration. Default: the original's.",
)
@json_flag
def what_if(recommendation_id: str, **changes: Any) -> None:
    """Recompute an answer with another model, other rules or other shares, and show the changes.

    Everything else stays as it was: history, catalogue, time and chance.

    \b
    Example:  slipstream answers what-if $ID --model 20261128-004003-ce697b
              slipstream answers what-if $ID --policy calmer.json
              slipstream answers what-if $ID --placement-revision 3 --boost "2:price < 20"
    """
    change = change_of(**changes)
    with call().peer() as peer:
        found = peer.post(f"/v1/answers/{segment(recommendation_id)}:what-if", change)
    if call().shows_json(found):
        return
    show_table(
        ("item", "before", "after", "moved", "score before", "score after"),
        [
            (
                each["item_id"],
                _or_dash(each["place_before"]),
                _or_dash(each["place_after"]),
                _moved(each),
                _score(each["score_before"]),
                _score(each["score_after"]),
            )
            for each in found["diff"]["items"]
        ],
    )
    if not found["identical"]:
        click.echo("The list before is not the recorded one: see slipstream answers show.")
    for note in found["notes"]:
        click.echo(f"Note: {note}.")


def _side_by_side(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for place in range(max(len(found["recorded"]), len(found["rebuilt"]))):
        cells = [str(place + 1)]
        for items in (found["recorded"], found["rebuilt"]):
            there = items[place] if place < len(items) else None
            cells += [there["item_id"], _score(there["score"])] if there else ["-", "-"]
        rows.append(tuple(cells))
    return rows


def _moved(change: dict[str, Any]) -> str:
    if change["place_before"] is None:
        return "entered"
    if change["place_after"] is None:
        return "left"
    return f"{change['moved']:+d}" if change["moved"] else "="


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.6g}"


def _or_dash(place: int | None) -> str:
    return "-" if place is None else str(place)


def _boost(text: str) -> dict[str, Any]:
    factor, _, wanted = text.partition(":")
    try:
        return {"factor": float(factor), "filter": wanted.strip()}
    except ValueError:
        raise click.BadParameter(
            f"{text!r} has no factor: it looks like 2:brand == 'Kalo'", param_hint="--boost"
        ) from None


def _read(policy: Path) -> Any:
    try:
        return json.loads(policy.read_text("utf-8"))
    except ValueError as error:
        raise click.ClickException(f"{policy} is not JSON: {error}") from error
