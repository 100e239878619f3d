"""`slipstream runs`: list, start, follow and cancel training runs."""

from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from slipstream.contracts.steps import STEPS
from slipstream.contracts.times import format_duration, format_time
from slipstream_cli.commands.run_steps import (
    DAY_S,
    answered,
    outputs_of,
    served,
    watched,
    write_outputs,
)
from slipstream_cli.local.processes import INTERRUPTED
from slipstream_cli.output import figures, show_facts, show_json
from slipstream_cli.peers import limit_option, peer_of, segment, serving_peer, target_url
from slipstream_cli.rest_commands import Columns, call, json_flag, peer_group, show_list

if TYPE_CHECKING:
    from slipstream.chassis.client import Peer
    from slipstream.contracts.rest import Run


def _in_short(item: dict[str, Any]) -> str:
    return _outcome(_run(item)).partition(": ")[0]


COLUMNS: Final[Columns] = {
    "run": itemgetter("run_id"),
    "state": itemgetter("state"),
    "profile": itemgetter("profile"),
    "trigger": itemgetter("trigger"),
    "requested": lambda item: format_time(item["created_at"]),
    "took": lambda item: _took(_run(item)),
    "outcome": _in_short,
}


@peer_group("training", short_help="List, start, follow and cancel training runs.")
def runs() -> None:
    """List, start, follow and cancel training runs, over training's REST API.

    A schedule, new events, a changed catalogue and drift also start runs.

    \b
    Example:  slipstream runs start --follow
              slipstream runs list
    """


@runs.command("list", short_help="Show the latest runs.")
@limit_option("runs")
@json_flag
def list_runs(limit: int) -> None:
    """Show the latest runs, newest first: trigger, state or outcome, and time taken.

    \b
    Example:  slipstream runs list --limit 5
              slipstream runs list --json | jq '.[0].metrics'
    """
    items = show_list("/v1/runs", COLUMNS, limit)
    if call().as_json:
        return
    click.echo(
        f"\nNext: slipstream runs show {items[0]['run_id']}{call().option}"
        if items
        else f"\nNo run yet: slipstream runs start{call().option}"
    )


@runs.command("show", short_help="Show one run, and the gate's decision.")
@click.argument("run_id")
@json_flag
def show_run(run_id: str) -> None:
    """Show a run: progress or outcome, metrics, and all numbers behind the gate's decision.

    \b
    Example:  slipstream runs show 20261124-101500-3fa9c1
    """
    with call().peer() as peer:
        run = peer.get(f"/v1/runs/{segment(run_id)}")
        decisions = peer.get(f"/v1/runs/{segment(run_id)}/decisions")
        ahead = "" if call().as_json else _ahead(peer, run)
    if call().shows_json({**run, "decisions": decisions}):
        return
    _show(_run(run), ahead)
    for decision in decisions:
        show_facts([(f"  {name}", f"{value:.6g}") for name, value in decision["numbers"].items()])


@runs.command("report", short_help="Download a run's report, a page.")
@click.argument("run_id")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that the report is written to. Default: RUN_ID.html in the current folder.",
)
@click.option("--open", "opening", is_flag=True, help="Open the report in the browser.")
def report(run_id: str, output: Path | None, opening: bool) -> None:
    """Download the report of a run that made a model, as one HTML file.

    It shows the gate's decision, figures by cohort, and lists before and after.

    \b
    Example:  slipstream runs report 20261124-101500-3fa9c1 --open
    """
    output = output or Path(f"{run_id}.html")
    with call().peer() as peer:
        try:
            peer.download(f"/v1/runs/{segment(run_id)}/report", output)
        except OSError as error:
            raise click.ClickException(f"{output}: {error.strerror}") from error
    click.echo(f"Wrote {output}.")
    if opening and click.launch(str(output)):
        click.echo("No browser could be started: open the file yourself.", err=True)


@runs.command("start", short_help="Request a run.")
@click.option(
    "--profile",
    type=click.Choice(["fast", "best"]),
    default="fast",
    show_default=True,
    help="Training effort: minutes (fast) or hours (best).",
)
@click.option("--reason", default="", help="Reason, which is kept with the run. Default: none.")
@click.option(
    "--key",
    help="Key of your choice, which stands for the run: another start with it finds that run and"
    " begins no second one. Letters, digits and . _ : - (128 at most). Default: none.",
)
@click.option(
    "--follow", "following", is_flag=True, help="Show the run's progress until it has ended."
)
@json_flag
def start(
    profile: str,
    reason: str,
    key: str | None,
    following: bool,
) -> None:
    """Request a run.

    If one of the same profile is queued already, that one is returned: it will see the same data.

    \b
    Example:  slipstream runs start --profile best --reason "new catalogue" --follow
              slipstream runs start --key nightly-2026-11-24
    """
    call().url, _ = target_url("training", call().url, call().data_dir)
    with call().peer() as peer:
        body = {"trigger": "request", "reason": reason, "profile": profile}
        if key is None:
            run = peer.post("/v1/runs", body)
        else:  # may be repeated
            run = answered(lambda: peer.post("/v1/runs", {**body, "key": key}))
        if following:
            _follow(peer, run["run_id"])
            return
        ahead = "" if call().as_json else _ahead(peer, run)
    if call().shows_json(run):
        return
    click.echo(f"{run['run_id']}  {run['state']}{ahead}")
    click.echo(f"Next: slipstream runs follow {run['run_id']}{call().option}")


@runs.command(short_help="Remove a run from the queue, or stop it.")
@click.argument("run_id")
@json_flag
def cancel(run_id: str) -> None:
    """Remove a run from the queue, or stop it.

    The champion goes on serving. A run can't be cancelled while its model is being published.

    \b
    Example:  slipstream runs cancel 20261124-101500-3fa9c1
    """
    with call().peer() as peer:
        run = peer.post(f"/v1/runs/{segment(run_id)}:cancel", {})
    if call().shows_json(run):
        return
    click.echo(f"{run_id}  {'cancelled' if run['state'] == 'cancelled' else 'is being stopped'}")


@runs.command(short_help="Show a run's progress until it has ended.")
@click.argument("run_id", metavar="RUN_ID|KEY", required=False)
@click.option(
    "--until",
    type=click.Choice([kind.name for kind in STEPS]),
    help="Wait for this step alone, and print its outputs as one JSON object. Default: wait for the"
    " whole run.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=DAY_S,
    show_default=True,
    help="Longest wait for the step (s).",
)
@click.option(
    "--output",
    "files",
    metavar="NAME=FILE",
    multiple=True,
    help="Also write one output of the step into a file; may be given several times."
    " Default: none.",
)
@click.option(
    "--serving-url",
    "serving",
    help="URL of serving, which is to answer with the version before promote is over. Default: that"
    " of the stack, or of SLIPSTREAM_PEERS__SERVING_URL; where nothing says, it is not asked.",
)
@json_flag
def follow(
    run_id: str | None,
    until: str | None,
    timeout: float,
    files: tuple[str, ...],
    serving: str | None,
) -> None:
    """Show a run's progress until it has ended; without RUN_ID, that of the newest run.

    Ctrl-C stops the following, not the run. The exit status is 0 when the run has succeeded,
    whatever the gate decided about its model, and 1 when it has failed or was cancelled.

    \b
    With --until, the exit status is
      0  the step is over; that of the gate also where it refuses ("decision": "refused")
      1  training was unavailable for ten minutes, or knows no such run
      3  the run has failed or was cancelled; with this key it stays so
      4  the gate refused, so the step is skipped
      5  the time ran out; the run goes on, or serving has not taken the promoted version

    \b
    Example:  slipstream runs follow
              slipstream runs follow nightly-2026-11-24 --until gate
    """
    with call().peer() as peer:
        if run_id is None:
            newest = peer.get("/v1/runs", limit=1)["items"]
            if not newest:
                raise click.ClickException(
                    "there is no run to follow; start one: slipstream runs start --follow"
                )
            run_id = newest[0]["run_id"]
        if until is not None:
            outputs = outputs_of(peer, run_id, until, timeout)
            if until == "promote":
                data_dir = call().data_dir
                with (
                    peer_of("monitoring", None, data_dir) as monitoring,
                    serving_peer(serving, call().url, data_dir, reconnects=True) as answering,
                ):
                    if answering:
                        outputs = served(answering, peer, monitoring, outputs)
            show_json(outputs)
            write_outputs(outputs, files)
            return
        _follow(peer, run_id)


@runs.command(short_help="Watch the version that a run has promoted, for some minutes.")
@click.argument("run_id", metavar="RUN_ID|KEY")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Time after the promotion until which the version is watched.",
)
@click.option(
    "--roll-back", is_flag=True, help="Make the champion before it champion again on an alert."
)
@click.option(
    "--monitoring-url",
    help="URL of monitoring. Default: that of the stack, or of SLIPSTREAM_PEERS__MONITORING_URL.",
)
def watch(
    run_id: str,
    minutes: float,
    roll_back: bool,
    monitoring_url: str | None,
) -> None:
    """Watch the version that a run has promoted, and print its quality as one JSON object.

    Alerts of monitoring about the model that have opened since the promotion end the watch: fewer
    clicks, or more answers without the model. A repeat ends at the same time, and rolls back once.

    \b
    The exit status is
      0  no such alert came, or another version is champion by now
      1  training or monitoring was unavailable for ten minutes
      3  the run has failed or was cancelled
      4  the gate refused, so there is nothing to watch
      6  an alert came

    \b
    Example:  slipstream runs watch nightly-2026-11-24 --minutes 30 --roll-back
    """
    with call().peer() as peer, peer_of("monitoring", monitoring_url, call().data_dir) as other:
        show_json(watched(peer, other, run_id, minutes, roll_back=roll_back))


def _run(item: dict[str, Any]) -> "Run":
    from slipstream.contracts.rest import Run

    return Run.model_validate(item)


def _ahead(peer: "Peer", run: dict[str, Any]) -> str:
    from slipstream_cli.commands.run_watch import behind

    return behind(peer, _run(run))


def _follow(peer: "Peer", run_id: str) -> None:
    from slipstream_cli.commands.run_watch import follow as follow_run
    from slipstream_cli.local.terminal import Terminal

    at = call().option
    try:
        with Terminal().gauge() as shown:
            run = follow_run(peer, run_id, shown)
    except KeyboardInterrupt:
        click.echo(
            f"\nStopped following; the run goes on. Again: slipstream runs follow {run_id}{at}",
            err=True,
        )
        click.echo(f"To stop the run itself: slipstream runs cancel {run_id}{at}", err=True)
        raise SystemExit(INTERRUPTED) from None
    if not call().shows_json(run.model_dump()):
        _show(run)
    if run.state != "succeeded":
        raise SystemExit(1)
    if not call().as_json:
        click.echo(
            f"Next: slipstream models show {run.model_version}{at},"
            f" slipstream runs report {run.run_id}{at}"
        )


def _show(run: "Run", ahead: str = "") -> None:
    from slipstream_cli.commands.run_watch import activity

    facts: list[tuple[str, Any]] = [
        ("run", f"{run.run_id} ({run.profile})"),
        (
            "requested",
            f"{format_time(run.created_at)} ({': '.join(filter(None, (run.trigger, run.reason)))})",
        ),
        (
            "state",
            run.state if run.finished_at else f"{run.progress:.0%}, {activity(run, ahead)}",
        ),
        ("took", _took(run)),
        ("outcome", _outcome(run)),
        ("model", run.model_version),
        ("lake", f"version {run.lake_version}" if run.lake_version is not None else ""),
        *figures(run.metrics),
    ]
    show_facts(facts)


def _took(run: "Run") -> str:
    return (
        format_duration((run.finished_at - run.started_at) / 1000)
        if run.started_at and run.finished_at
        else ""
    )


def _outcome(run: "Run") -> str:
    if run.decision:
        return f"{run.decision}: {run.decision_reason}"
    return run.error or "" if run.finished_at else ""
