"""`slipstream dead-letters`: list rejected events, and replay them."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream.contracts.times import now_ms
from slipstream_cli.local.plan import EXTERNAL
from slipstream_cli.options import AgeOrTime, data_dir_option, option_of
from slipstream_cli.peers import broker_of, environment_settings, stack_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipstream.contracts.progress import ProgressStep
    from slipstream_cli.dead_letters.letters import Letter, LetterFilter
    from slipstream_cli.dead_letters.resend import ReplayPlan

STDOUT = "-"
# Characters of each column of a list.
WIDTHS = {"source": 12, "code": 22, "field": 24, "reason": 60}


def _filter_options(command: Any) -> Any:
    for option in (
        data_dir_option("Data folder of the stack with the letters."),
        click.option(
            "--since",
            type=AgeOrTime(),
            default=0,
            help="Only letters received since then: an age (90m, 2h, 3d) or an ISO 8601 time (UTC)."
            " Default: all.",
        ),
        click.option(
            "--source",
            "sources",
            multiple=True,
            help="Only letters of this source: a write key's name, or features; repeatable."
            " Default: all.",
        ),
        click.option(
            "--code",
            "codes",
            multiple=True,
            help="Only letters with this code, such as missing_item; repeatable. Default: all.",
        ),
    ):
        command = option(command)
    return command


@click.group("dead-letters", short_help="List rejected events, and replay them.")
def dead_letters() -> None:
    """List rejected events, and replay them once the cause is repaired.

    Letters are read from dead-letters.v1 of the stack that runs on the data folder, or of the
    broker that SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS names, in SLIPSTREAM_NAMESPACE.

    \b
    Example:  slipstream dead-letters list --since 2h
              slipstream dead-letters replay --code missing_item --dry-run
    """


@dead_letters.command("list", short_help="Show the newest dead letters.")
@_filter_options
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Most letters shown; the newest are.",
)
@click.option(
    "--json",
    "json_path",
    is_flag=False,
    flag_value=STDOUT,
    metavar="[FILE]",
    help="Write whole letters with their originals as JSON, to FILE or to standard output."
    " Default: a line of text for each.",
)
def list_letters(
    codes: tuple[str, ...],
    sources: tuple[str, ...],
    since: int,
    data_dir: Path,
    limit: int,
    json_path: str | None,
) -> None:
    """Show how many dead letters have each code, and the newest of them.

    Each line has time (UTC), source, code, field, reason and request id.

    \b
    Example:  slipstream dead-letters list --source shop --code missing_item --since 3d
              slipstream dead-letters list --json | jq '.[0].original'
    """
    chosen, replayed = _letter_filter(codes, sources, since), set[str]()
    letters = []
    for letter in _stored(data_dir):
        replayed.update(letter.marked)
        if letter in chosen and not letter.marked:
            letters.append(letter)
    letters.sort(key=lambda letter: letter.record.received_at)
    shown = letters[-limit:]
    if json_path:
        text = json.dumps(
            [_as_json(letter, letter.id in replayed) for letter in shown],
            indent=2,
            ensure_ascii=False,
        )
        if json_path == STDOUT:
            click.echo(text)
        else:
            Path(json_path).write_text(text + "\n", encoding="utf-8")
            click.echo(f"Wrote {len(shown):,} of {len(letters):,} letters to {json_path}.")
        return
    by_code = Counter(letter.record.code for letter in letters)
    click.echo(f"{len(letters):,} letters" + (f", the newest {len(shown):,}:" if shown else ""))
    for code, count in by_code.most_common():
        click.echo(f"  {code}: {count:,}")
    for letter in shown:
        click.echo(_row(letter))
    if letters:
        click.echo(
            "Next: repair the cause, then:"
            f" slipstream dead-letters replay --dry-run{option_of(data_dir)}"
        )


@dead_letters.command("replay", short_help="Send the originals again.")
@_filter_options
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="Most letters sent: the oldest that can be, and were not replayed before. Default: all.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the numbers that would be sent, and send nothing."
)
@click.option(
    "--again",
    is_flag=True,
    help="Send letters again that were replayed before.",
)
@click.option(
    "--url",
    help="URL of ingestion. Default: that of the stack, or of SLIPSTREAM_PEERS__INGESTION_URL.",
)
@click.option(
    "--write-key",
    help="Write key to send with; its name becomes the events' source. Default: the stack's.",
)
def replay(
    codes: tuple[str, ...],
    sources: tuple[str, ...],
    since: int,
    data_dir: Path,
    limit: int | None,
    dry_run: bool,
    again: bool,
    url: str | None,
    write_key: str | None,
) -> None:
    """Send the originals again through ingestion's REST API, with their message ids and times.

    Ingestion checks each again; one that is still wrong gets a new letter. Old events are sent as
    history. The topic has marks of what was replayed, so a second replay leaves it out.

    Letters of web pages and of features, patches and deletions are never sent. Of several entries
    of one item or user only the newest is. An entry counts from now on, so don't replay entries
    that were corrected since.

    \b
    Example:  slipstream dead-letters replay --code invalid_value --since 2026-11-24T08:00 --dry-run
              slipstream dead-letters replay --code invalid_value --since 2026-11-24T08:00
    """
    from slipstream.broker.kafka import BrokerUnavailableError
    from slipstream.datasets.upload import ReplayError
    from slipstream_cli.dead_letters.letters import replay_marks
    from slipstream_cli.dead_letters.resend import prepare, send
    from slipstream_cli.local.terminal import Terminal

    running = stack_on(data_dir)
    chosen = _letter_filter(codes, sources, since)
    plan = prepare(_stored(data_dir), now_ms(), chosen=chosen, limit=limit, again=again)
    _show_left_out(plan)
    if dry_run:
        for path, pairs in plan.sendable.items():
            click.echo(f"would send  {len(pairs):,} to {path}")
        click.echo("Nothing was sent." if plan.total else "There is nothing to send.")
        return
    url = url or running.get("ingestion") or environment_settings().peers.ingestion_url
    key = write_key or running.get("write_key", "dev")
    try:
        with replay_marks(*broker_of(data_dir)) as mark:
            verdicts = send(plan, mark, url, key, Terminal().bar())
    except (ReplayError, BrokerUnavailableError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"sent        {plan.total:,}")
    for verdict, count in verdicts.most_common():
        click.echo(f"  {verdict}: {count:,}")
    if set(verdicts) - {"accepted", "duplicate"}:
        click.echo(
            "Those rejected again have new letters: slipstream dead-letters list --since 10m"
        )


def _show_left_out(plan: "ReplayPlan") -> None:
    if plan.replayed:
        click.echo(f"left out    {plan.replayed:,} replayed before (--again sends them, too)")
    if plan.superseded:
        click.echo(
            f"left out    {plan.superseded:,} entries with a newer one of the same item or user"
        )
    for reason, count in plan.not_replayable.most_common():
        click.echo(f"left out    {count:,}: {reason}")


def _letter_filter(codes: tuple[str, ...], sources: tuple[str, ...], since: int) -> "LetterFilter":
    from slipstream_cli.dead_letters.letters import LetterFilter

    return LetterFilter(frozenset(codes), frozenset(sources), since)


def _stored(data_dir: Path) -> "Iterator[Letter]":
    """All letters and marks of the stack, with a line of progress."""
    from slipstream.broker.kafka import BrokerUnavailableError
    from slipstream_cli.dead_letters.letters import stored_letters
    from slipstream_cli.local.terminal import Terminal

    kafka, namespace = broker_of(data_dir)
    terminal = Terminal()

    def progress(step: "ProgressStep") -> None:
        terminal.transient(f"{step.done:,.0f} letters read")

    try:
        yield from stored_letters(kafka, namespace, progress)
    except BrokerUnavailableError as error:
        hint = (
            ""
            if stack_on(data_dir)
            else f"; nothing runs on {data_dir}:"
            f" start it with slipstream up, or set {EXTERNAL['broker']}"
        )
        raise click.ClickException(f"{error}{hint}") from error
    finally:
        terminal.progress("")


def _row(letter: "Letter") -> str:
    record = letter.record
    cells = {
        "source": record.source,
        "code": record.code,
        "field": record.field or "",
        "reason": record.reason,
    }
    shown = [_cell(cells[name], width) for name, width in WIDTHS.items()]
    return "  ".join(
        [
            f"{datetime.fromtimestamp(record.received_at / 1000, UTC):%Y-%m-%d %H:%M:%S}",
            *shown,
            record.request_id,
        ]
    )


def _cell(text: str, width: int) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= width else line[: width - 1] + "…").ljust(width)


def _as_json(letter: "Letter", replayed: bool) -> dict[str, Any]:
    return {"letter": letter.id, **letter.record.model_dump(), "replayed": replayed}
