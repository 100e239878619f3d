"""`slipstream models`: list registered models, promote one, roll back, or try one as canary."""

import time
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import click

from slipstream.contracts.times import format_time
from slipstream.contracts.vocabulary import ALIASES
from slipstream_cli.output import figures, show_facts
from slipstream_cli.peers import limit_option, segment, serving_peer
from slipstream_cli.rest_commands import Columns, call, json_flag, peer_group, show_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipstream.chassis.client import Peer

SERVING_LIMIT_S = 30.0


def _metric(name: str) -> "Callable[[Any], str]":
    return lambda model: f"{model['metrics'][name]:.4f}" if name in model["metrics"] else ""


COLUMNS: Final[Columns] = {
    "version": itemgetter("version"),
    "aliases": lambda model: ", ".join(model["aliases"]),
    "made": lambda model: format_time(model["created_at"]),
    **{name: _metric(name) for name in ("ndcg@10", "hit_rate@10", "mrr@20")},
}


@peer_group("training", short_help="List registered models, promote one, or roll back.")
def models() -> None:
    """List registered models, promote one, or roll back, over training's REST API.

    The champion is the version that serves. The challenger is the newest other version. The canary
    is one that experiments try on a share of the visitors (docs/experiments.md).

    \b
    Example:  slipstream models list
              slipstream models rollback --reason "fewer clicks since noon"
    """


@models.command("list", short_help="Show the registered versions.")
@limit_option("versions")
@json_flag
def list_models(limit: int) -> None:
    """Show the registered versions, newest first, with their aliases and offline metrics.

    \b
    Example:  slipstream models list --limit 5
              slipstream models list --json | jq '.[].version'
    """
    registered = show_list("/v1/models", COLUMNS, limit)
    if call().as_json:
        return
    click.echo(
        f"\nNext: slipstream models show VERSION{call().option}"
        if registered
        else f"\nNo model yet: slipstream runs start{call().option}"
    )


@models.command("show", short_help="Show one version, and why it serves or not.")
@click.argument("version", metavar="VERSION|champion|challenger|canary")
@json_flag
def show_model(version: str) -> None:
    """Show a version: its metrics, the data that it was trained on, and the gate's decision.

    \b
    Example:  slipstream models show champion
    """
    with call().peer() as peer:
        model = _model(peer, version)
        decisions = _decisions(peer, model["run_id"])
    if call().shows_json({**model, "decisions": decisions}):
        return
    show_facts(
        [
            ("version", model["version"]),
            ("aliases", ", ".join(model["aliases"])),
            ("made", format_time(model["created_at"])),
            ("run", model["run_id"]),
            (
                "lake",
                f"version {model['lake_version']}" if model["lake_version"] is not None else "",
            ),
            *figures(model["metrics"]),
            *(
                (f"decided {format_time(it['decided_at'])}", f"{it['outcome']}: {it['reason']}")
                for it in decisions
            ),
        ]
    )


def _promotion_options(command: Any) -> Any:
    for option in (
        json_flag,
        click.option(
            "--no-wait",
            is_flag=True,
            help="Return at once. Default: wait until serving has the version.",
        ),
        click.option(
            "--serving-url",
            help="URL of serving. Default: that of the stack, or of SLIPSTREAM_PEERS__SERVING_URL.",
        ),
        click.option(
            "--reason",
            default="by request",
            show_default=True,
            help="Reason, which is kept with the promotion.",
        ),
    ):
        command = option(command)
    return command


@models.command(short_help="Make a version the champion.")
@click.argument("version", metavar="VERSION|challenger|canary")
@_promotion_options
def promote(version: str, **options: Any) -> None:
    """Make a version the champion, whatever the gate decided, and wait until serving has it.

    \b
    Example:  slipstream models promote challenger --reason "the gate wanted more queries"
    """
    _promote(
        lambda peer: f"/v1/models/{segment(_model(peer, version)['version'])}:promote", **options
    )


@models.command(short_help="Make the previous champion the champion again.")
@_promotion_options
def rollback(**options: Any) -> None:
    """Make the previous champion the champion again, and wait until serving has it.

    \b
    Example:  slipstream models rollback --reason "fewer clicks since noon"
    """
    _promote(lambda _: "/v1/models:rollback", **options)


@models.command(short_help="Make a version the canary, or none.")
@click.argument("version", metavar="VERSION|challenger", required=False)
@click.option("--none", "removes", is_flag=True, help="Remove the alias.")
@click.option(
    "--reason",
    default="by request",
    show_default=True,
    help="Reason, which is kept with the event.",
)
@json_flag
def canary(
    version: str | None,
    removes: bool,
    reason: str,
) -> None:
    """Point the alias canary at a version, for experiments that try it, or remove the alias.

    \b
    Example:  slipstream models canary challenger --reason "the gate wanted more queries"
              slipstream models canary --none
    """
    if removes == (version is not None):
        raise click.UsageError("name a version, or --none")
    path = "/v1/aliases/canary"
    with call().peer() as peer:
        if version is None:
            model = peer.delete(f"{path}?{urlencode({'reason': reason})}")
        else:
            chosen = _model(peer, version)["version"]
            model = peer.put(path, {"version": chosen, "reason": reason})
    if not call().shows_json(model):
        click.echo(f"{model['version']}  is {'no longer ' if removes else ''}the canary")


def _promote(
    path: "Callable[[Peer], str]",
    *,
    reason: str,
    serving_url: str | None,
    no_wait: bool,
) -> None:
    with call().peer() as peer:
        model = peer.post(path(peer), {"reason": reason})
    if not call().shows_json(model):
        click.echo(f"{model['version']}  is the champion")
    if no_wait:
        return
    with serving_peer(serving_url, call().url, call().data_dir) as peer_or_none:
        if peer_or_none is None:
            click.echo(
                "Serving loads it within seconds;"
                " curl SERVING/v1/model shows the version that it has.",
                err=True,
            )
        else:
            taken_s = _await(peer_or_none, model["version"])
            click.echo(f"Serving answers with it after {taken_s:.1f} s.", err=True)


def _await(peer: "Peer", version: str) -> float:
    """Wait until serving has the version, and return the seconds that it took."""
    from slipstream.chassis.client import PeerError

    began, served = time.monotonic(), "no model"
    while (waited := time.monotonic() - began) < SERVING_LIMIT_S:
        try:
            served = peer.get("/v1/model")["version"]
        except PeerError as error:
            if error.status not in (404, 503):
                raise
        if served == version:
            return waited
        time.sleep(0.1)
    raise click.ClickException(
        f"{version} is the champion, but after {SERVING_LIMIT_S:.0f} s serving still has {served}:"
        " its log says why"
    )


def _model(peer: "Peer", version: str) -> dict[str, Any]:
    place = f"/v1/aliases/{version}" if version in ALIASES else f"/v1/models/{segment(version)}"
    model: dict[str, Any] = peer.get(place)
    return model


def _decisions(peer: "Peer", run_id: str) -> list[dict[str, Any]]:
    """Return the gate's decisions on a run; empty for an unknown run."""
    from slipstream.chassis.client import PeerError

    try:
        decisions: list[dict[str, Any]] = peer.get(f"/v1/runs/{segment(run_id)}/decisions")
    except PeerError as error:
        if error.status == 404:
            return []
        raise
    return decisions
