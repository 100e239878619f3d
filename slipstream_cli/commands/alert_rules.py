"""`slipstream alert-rules`: list, show, set and delete alert rules, over monitoring's REST API."""

from typing import Any, Final

from slipstream_cli.named_records import RecordCommands, delete_options, set_options, show_options
from slipstream_cli.output import show_table
from slipstream_cli.rest_commands import Columns, call, json_flag, peer_group

COMMANDS = RecordCommands("/v1/alert-rules", "definition", "from the next round of checks")
COLUMNS: Final[Columns] = {
    "metric": lambda it: " of ".join(filter(None, (it["metric"], it["of"]))),
    "fails": lambda it: f"{it['comparison']} {it['threshold']:g}",
    "for": lambda it: f"{it['for_minutes']:g} min",
    "severity": lambda it: it["severity"],
    "action": lambda it: it["action"],
}


@peer_group("monitoring", "alert-rules", short_help="List, show, set and delete alert rules.")
def alert_rules() -> None:
    """List, show, set and delete alert rules, over monitoring's REST API.

    A rule compares a metric with a threshold (docs/alerts.md). The next round of checks judges by
    a change. Every revision is kept.

    \b
    Example:  slipstream alert-rules metrics
              slipstream alert-rules set home-clicks.json
    """


@alert_rules.command("metrics", short_help="Show what a rule may compare, with present values.")
@json_flag
def show_metrics() -> None:
    """Show the metrics that a rule may compare, with their present values.

    \b
    Example:  slipstream alert-rules metrics
    """
    with call().peer() as peer:
        found = peer.get("/v1/alert-metrics")
    if call().shows_json(found):
        return
    rows = [
        (it["metric"], of, value, it["unit"])
        for it in found["items"]
        for of, value in [(each["of"], f"{each['value']:.4g}") for each in it["readings"]]
        or [("", "unknown")]
    ]
    show_table(("metric", "of", "value", "unit"), rows)


@alert_rules.command("list", short_help="List all alert rules that are data.")
@json_flag
def list_alert_rules() -> None:
    """List all alert rules that are data: metric, threshold, and who changed it last.

    \b
    Example:  slipstream alert-rules list
    """
    COMMANDS.list(COLUMNS)


@alert_rules.command("show", short_help="Show a rule's definition, as `set` takes it.")
@show_options
def show_alert_rule(**options: Any) -> None:
    """Show the definition of NAME as JSON, as `slipstream alert-rules set` takes it.

    \b
    Example:  slipstream alert-rules show features_lagging
              slipstream alert-rules show features_lagging --revision 1
    """
    COMMANDS.show(**options)


@alert_rules.command("set", short_help="Create a rule, or replace its definition.")
@set_options
def set_alert_rule(**options: Any) -> None:
    """Create an alert rule, or replace its whole definition with that in FILE.

    The same definition again changes nothing. FILE is JSON, for example:

    \b
        {"metric": "placement_click_through", "of": "home", "comparison": "below",
         "threshold": 0.03, "severity": "critical", "runbook": "Ask the shop's editors."}

    \b
    Example:  slipstream alert-rules set home-clicks.json
              slipstream alert-rules set lag.json --name features_lagging --if-revision 1
    """
    COMMANDS.set(**options)


@alert_rules.command("delete", short_help="Delete an alert rule.")
@delete_options
def delete_alert_rule(**options: Any) -> None:
    """Delete NAME: its alert closes. Its revisions stay.

    \b
    Example:  slipstream alert-rules delete home-clicks
    """
    COMMANDS.delete(**options)
