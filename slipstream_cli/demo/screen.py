"""Texts of the demo: lists of films with genres, and the changes by a click."""

from collections.abc import Iterator
from typing import Any

from slipstream_cli.demo.tastes import DemoVisitor
from slipstream_cli.local.plan import Plan

Film = dict[str, Any]
# Films shown of a history.
LATELY = 5
# Characters of a title.
_TITLE = 46


def visitor(shown: DemoVisitor, watched: list[Film], slate: list[Film]) -> str:
    """Format a visitor's taste, latest films and recommendations.

    Args:
        shown: The visitor.
        watched: Attributes of the films watched, newest first.
        slate: The recommendations as served.
    """
    lines = [
        "",
        f"Visitor {shown.user_id}, more than others: {', '.join(shown.likes)}",
        "  watched lately",
    ]
    lines += [f"     {_film(film)}" for film in watched[:LATELY]]
    lines += [
        "  recommended",
        *(f"  {place:>2} {_film(item['attributes'])}" for place, item in enumerate(slate, 1)),
    ]
    return "\n".join(lines)


def change(
    user_id: str, clicked: Film, before: list[Film], after: list[Film], elapsed_s: float
) -> str:
    """Format a list after a click, with the films that are new, have moved, or have left.

    Args:
        user_id: The visitor.
        clicked: The film that was clicked on.
        before: The recommendations before the click, as served.
        after: Those after it.
        elapsed_s: Seconds between the click and them.
    """
    film = clicked["attributes"]
    lines = ["", f"Visitor {user_id} clicks on {_name(film)} ({', '.join(film['categories'])})"]
    lines += [
        f"  recommended {elapsed_s * 1000:.0f} ms after the click was accepted",
        *_marked(before, after),
    ]
    stayed = {item["item_id"] for item in after}
    left = [_name(item["attributes"]) for item in before if item["item_id"] not in stayed]
    if left:
        lines.append(f"  no longer:  {', '.join(left)}")
    return "\n".join(lines)


def _marked(before: list[Film], after: list[Film]) -> Iterator[str]:
    places = {item["item_id"]: place for place, item in enumerate(before)}
    for place, item in enumerate(after):
        moved = places[item["item_id"]] - place if item["item_id"] in places else None
        mark = (
            "new"
            if moved is None
            else f"↑{moved}"
            if moved > 0
            else f"↓{-moved}"
            if moved < 0
            else ""
        )
        yield f"  {place + 1:>2} {_film(item['attributes'])}  {mark}".rstrip()


def where_to_look(plan: Plan, user_id: str) -> str:
    """Format the URLs, two commands to try, and the next steps with other data."""
    urls = plan.urls
    lines = ["", *(f"{name:<11} {url}/docs   {url}/metrics" for name, url in urls.items())]
    lines += ["", f"Clicks and conversions by model: {urls['monitoring']}/", "", "Try it:"]
    lines.append(f"  curl '{urls['serving']}/v1/recommendations/{user_id}?n=5&attributes=true'")
    lines.append(
        f"  curl -u {plan.write_key}: {urls['ingestion']}/v1/track"
        " -H 'content-type: application/json' "
        f"""-d '{{"userId": "{user_id}", "event": "click", "properties": {{"item_id": "50"}}}}'"""
    )
    lines += ["", f"With your own data, which is kept apart (the demo's is in {plan.directory}):"]
    lines += [
        "  slipstream up",
        "  slipstream import orders.csv items.csv     (in a second terminal)",
    ]
    return "\n".join(lines)


def _film(film: Film) -> str:
    name = _name(film)
    if len(name) > _TITLE:
        name = name[: _TITLE - 1] + "…"
    return f"{name:<{_TITLE}} {', '.join(film['categories'])}"


def _name(film: Film) -> str:
    year = film.get("release_year")
    return f"{film['title']} ({year})" if year else str(film["title"])
