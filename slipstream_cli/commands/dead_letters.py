"""`slipstream dead-letters list` and `replay`."""

import json
import os
import re
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream.contracts.times import parse_iso
from slipstream_cli.local.plan import EXTERNAL
from slipstream_cli.options import data_dir_option
from slipstream_cli.peers import environment_settings

if TYPE_CHECKING:
    from slipstream_cli.dead_letters.letters import Letter, LetterFilter
    from slipstream_cli.dead_letters.resend import ReplayPlan

UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
STDOUT = "-"
WIDTHS = {"source": 12, "code": 22, "field": 24, "reason": 60}


def _moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int:
    """An age (`90m`, `2h`, `3d`) or an ISO 8601 time, as milliseconds since the epoch; 0 for none."""
    if value is None:
        return 0
    if age := re.fullmatch(r"(\d+)([smhd])", value):
        return int(time.time() * 1000) - int(age[1]) * UNITS_MS[age[2]]
    try:
        return parse_iso(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is neither an age like 90m, 2h or 3d nor an ISO 8601 time"
        ) from error


def _choosing(command: Any) -> Any:
    for option in (
        data_dir_option(
            "The folder of the stack whose letters these are; it also keeps which have been replayed."
        ),
        click.option(
            "--since",
            callback=_moment,
            metavar="AGE|TIME",
            help="Received since: 90m, 2h, 3d, or an ISO 8601 time (UTC).",
        ),
        click.option(
            "--source",
            "sources",
            multiple=True,
            help="Only of this source (a write key's name, or features); repeatable.",
        ),
        click.option(
            "--code",
            "codes",
            multiple=True,
            help="Only with this code, such as missing_item; repeatable.",
        ),
    ):
        command = option(command)
    return command


@click.group("dead-letters", short_help="See what could not be taken, and send it again.")
def dead_letters() -> None:
    """See what could not be taken, and send it again once the cause is repaired.

    Read from dead-letters.v1 of the stack that runs on the data folder, or of the broker that
    SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS names, in SLIPSTREAM_NAMESPACE.

    \b
    Example:  slipstream dead-letters list --since 2h
              slipstream dead-letters replay --code missing_item --dry-run
    """


@dead_letters.command("list", short_help="Show the newest of them.")
@_choosing
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest so many."
)
@click.option(
    "--json",
    "json_path",
    is_flag=False,
    flag_value=STDOUT,
    metavar="[FILE]",
    help="All that a letter holds, the original too, as JSON; without a file, on standard output.",
)
def list_letters(
    codes: tuple[str, ...],
    sources: tuple[str, ...],
    since: int,
    data_dir: Path,
    limit: int,
    json_path: str | None,
) -> None:
    """Show the newest dead letters: time (UTC), source, code, field, reason, request id.

    \b
    Example:  slipstream dead-letters list --source shop --code missing_item --since 3d
              slipstream dead-letters list --json | jq '.[0].original'
    """
    from slipstream_cli.dead_letters.resend import ReplayedLetters

    letters = _read(data_dir, _choice(codes, sources, since))
    shown = letters[-limit:]
    memory = ReplayedLetters(data_dir)
    if json_path:
        text = json.dumps(
            [_as_json(letter, letter in memory) for letter in shown], indent=2, ensure_ascii=False
        )
        if json_path == STDOUT:
            click.echo(text)
        else:
            Path(json_path).write_text(text + "\n", encoding="utf-8")
            click.echo(f"Wrote {len(shown):,} of {len(letters):,} letters to {json_path}.")
        return
    for letter in shown:
        click.echo(_row(letter))
    by_code = Counter(letter.record.code for letter in letters)
    click.echo(f"\n{len(shown):,} of {len(letters):,} letters")
    for code, count in by_code.most_common():
        click.echo(f"  {code}: {count:,}")
    if letters:
        click.echo("Next: repair the cause, then: slipstream dead-letters replay --dry-run")


@dead_letters.command("replay", short_help="Send the originals again.")
@_choosing
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="The oldest so many that have not been replayed; without it, all.",
)
@click.option("--dry-run", is_flag=True, help="Send nothing; say what would be sent.")
@click.option(
    "--again", is_flag=True, help="Also those that have been replayed from this data folder before."
)
@click.option(
    "--url",
    help="Ingestion's URL. Without one: that of the stack, or of SLIPSTREAM_PEERS__INGESTION_URL.",
)
@click.option(
    "--write-key",
    help="The write key to send with; its name becomes the source. Without one: the stack's.",
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
    """Send the originals again through ingestion's REST API, under their message ids and at their
    times.

    Each is judged as any other: what is still wrong gets a new letter. Old events go as history.
    Which letters have been replayed is kept in the data folder, so that a second replay leaves them
    out. Of several entries of one item or user only the newest is sent; an entry counts from now
    on, so do not replay those that have been corrected since.

    \b
    Example:  slipstream dead-letters replay --code invalid_value --since 2026-11-24T08:00 --dry-run
              slipstream dead-letters replay --code invalid_value --since 2026-11-24T08:00
    """
    from slipstream.datasets.replay import ReplayError
    from slipstream_cli.dead_letters.resend import ReplayedLetters, prepare, send
    from slipstream_cli.local.terminal import Terminal

    running = _running(data_dir)
    memory = ReplayedLetters(data_dir)
    letters = _read(data_dir, _choice(codes, sources, since))
    if limit:
        letters = [letter for letter in letters if again or letter not in memory][:limit]
    prepared = prepare(letters, memory, int(time.time() * 1000), again=again)
    _tell_left_out(prepared)
    if dry_run:
        for path, pairs in prepared.sendable.items():
            click.echo(f"would send  {len(pairs):,} to {path}")
        click.echo("Nothing was sent." if prepared.total else "There is nothing to send.")
        return
    url = url or running.get("ingestion") or environment_settings().peers.ingestion_url
    key = write_key or running.get("write_key", "dev")
    try:
        verdicts = send(prepared, memory, url, key, Terminal().bar("letters"))
    except ReplayError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"sent        {prepared.total:,}")
    for verdict, count in verdicts.most_common():
        click.echo(f"  {verdict}: {count:,}")
    if set(verdicts) - {"accepted", "duplicate"}:
        click.echo(
            "What was rejected again has new letters: slipstream dead-letters list --since 10m"
        )


def _tell_left_out(prepared: "ReplayPlan") -> None:
    if prepared.replayed:
        click.echo(
            f"left out    {prepared.replayed:,} that have been replayed (--again sends them, too)"
        )
    if prepared.superseded:
        click.echo(
            f"left out    {prepared.superseded:,} entries with a newer one of the same item or user"
        )
    for reason, count in prepared.not_replayable.most_common():
        click.echo(f"left out    {count:,}: {reason}")


def _choice(codes: tuple[str, ...], sources: tuple[str, ...], since: int) -> "LetterFilter":
    from slipstream_cli.dead_letters.letters import LetterFilter

    return LetterFilter(frozenset(codes), frozenset(sources), since)


def _running(data_dir: Path) -> dict[str, str]:
    """The stack on this folder, unless the environment names another broker."""
    from slipstream_cli.local.data_folder import running_stack

    running = running_stack(data_dir)
    named = os.environ.get(EXTERNAL["broker"])
    return {} if named and named != running.get("kafka") else running


def _read(data_dir: Path, choice: "LetterFilter") -> "list[Letter]":
    from slipstream.broker.kafka import BrokerUnavailableError
    from slipstream_cli.dead_letters.letters import read_letters
    from slipstream_cli.local.terminal import Terminal

    settings, running = environment_settings(), _running(data_dir)
    kafka, namespace = settings.kafka, settings.namespace
    if running:
        kafka, namespace = (
            kafka.model_copy(update={"bootstrap_servers": running["kafka"]}),
            running["namespace"],
        )
    terminal = Terminal()

    def progress(read: int) -> None:
        if read % 10_000 == 0:
            terminal.progress(f"{read:,} letters read")

    try:
        return read_letters(kafka, namespace, choice, progress)
    except BrokerUnavailableError as error:
        hint = (
            ""
            if running
            else f"; nothing runs on {data_dir}: start it with slipstream up, or set {EXTERNAL['broker']}"
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
