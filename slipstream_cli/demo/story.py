"""The demo's steps, in order, all over REST, as any client could.

Its visitors are some of plainly different taste, chosen by the films that they watched. It shows
lists of films with genres, and the changes by a click. Garments take the place of films in a
simulated shop.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from slipstream.datasets.movielens import EventFiles
from slipstream_cli.demo.preparation import DemoError as DemoError
from slipstream_cli.demo.preparation import Preparation, garment_files, movielens_files
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.terminal import Terminal

# Number of latest films that a taste is computed from; fewer say too little.
RECENT = 40


@dataclass(frozen=True)
class DemoVisitor:
    """A visitor of the demo.

    Attributes:
        user_id: The visitor.
        watched: Item ids of the films watched, newest first.
        likes: Genres that the visitor watches more than others do.
    """

    user_id: str
    watched: list[str]
    likes: list[str]


def contrasting_visitors(
    interactions: pa.Table, items: pa.Table, count: int = 3
) -> list[DemoVisitor]:
    """Choose `count` visitors with the most different genres of recent films.

    The same files give the same visitors.

    A taste is the share of each genre among the last 40 films, less its share over all visitors.
    The first visitor has the longest such vector. Each next one is the farthest from the nearest of
    those chosen.
    """
    genres = sorted({genre for row in items["categories"].to_pylist() for genre in row})
    kinds = {row["item_id"]: _shares(row["categories"], genres) for row in items.to_pylist()}
    watched: dict[str, list[str]] = {}
    # Films of the same second are ordered by id, so that the file's order does not matter.
    columns = (interactions[name].to_pylist() for name in ("timestamp", "user_id", "item_id"))
    events = sorted(zip(*columns, strict=True))
    for _, user_id, item_id in reversed(events):
        watched.setdefault(user_id, []).append(item_id)
    users = sorted(user_id for user_id, films in watched.items() if len(films) >= RECENT)
    if len(users) < count:
        raise ValueError(
            f"{count} visitors with {RECENT} films each are needed, there are {len(users)}"
        )
    tastes = np.array(
        [np.mean([kinds[film] for film in watched[user_id][:RECENT]], axis=0) for user_id in users]
    )
    tastes -= tastes.mean(axis=0)
    chosen = [int(np.argmax(np.linalg.norm(tastes, axis=1)))]
    while len(chosen) < count:
        distances = np.min(
            [np.linalg.norm(tastes - tastes[index], axis=1) for index in chosen], axis=0
        )
        chosen.append(int(np.argmax(distances)))
    return [
        DemoVisitor(users[index], watched[users[index]], _marked(tastes[index], genres))
        for index in chosen
    ]


def films_of_another_kind(
    visitor: DemoVisitor, known: set[str], slates: list[list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Order films of other visitors' lists by how little the visitor knows them.

    Args:
        known: Item ids of films that the visitor knows.
        slates: The recommendations of other visitors.

    Returns:
        The films: unknown ones first, and among them those with the fewest genres that the visitor
        likes. After many demos all are known.
    """

    def familiarity(film: dict[str, Any]) -> tuple[bool, int]:
        liked = set(film["attributes"]["categories"]) & set(visitor.likes)
        return film["item_id"] in known, len(liked)

    return sorted((film for slate in slates for film in slate), key=familiarity)


def _shares(categories: list[str], genres: list[str]) -> NDArray[np.float64]:
    vector = np.zeros(len(genres))
    for genre in categories:
        vector[genres.index(genre)] = 1 / len(categories)
    return vector


def _marked(taste: NDArray[np.float64], genres: list[str], most: int = 3) -> list[str]:
    return [
        genres[index] for index in np.argsort(-taste, kind="stable")[:most] if taste[index] > 0.02
    ]


Film = dict[str, Any]
# Films shown of a history.
LATELY = 5
# Characters of a title.
_TITLE = 46


class Wording(NamedTuple):
    """Words for what visitors do with items, and for what they did lately."""

    does: str
    lately: str


FILMS: Final = Wording("watches", "recently watched")
GARMENTS: Final = Wording("looks at", "recently viewed")


def visitor_text(
    shown: DemoVisitor, watched: list[Film], slate: list[Film], words: Wording = FILMS
) -> str:
    """Format a visitor's taste, latest films and recommendations.

    Args:
        watched: Attributes of the films watched, newest first.
    """
    lines = [
        "",
        f"Visitor {shown.user_id} {words.does} more than others: {', '.join(shown.likes)}",
        f"  {words.lately}",
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
        before: The recommendations before the click, as served.
        after: Those after it.
        elapsed_s: Seconds between the click and them.
    """
    film = clicked["attributes"]
    lines = ["", f"Visitor {user_id} clicks on {_name(film)} ({', '.join(film['categories'])})"]
    lines += [
        f"  recommended {elapsed_s * 1000:.0f} ms after the click was accepted",
        *_moved(before, after),
    ]
    stayed = {item["item_id"] for item in after}
    left = [_name(item["attributes"]) for item in before if item["item_id"] not in stayed]
    if left:
        lines.append(f"  dropped:  {', '.join(left)}")
    return "\n".join(lines)


def _moved(before: list[Film], after: list[Film]) -> Iterator[str]:
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


def where_to_look(plan: Plan, user_id: str, item_id: str) -> str:
    """Format the URLs, two commands to try, and the next steps with other data."""
    urls = plan.urls
    lines = [""]
    for name, url in urls.items():
        docs = f"{url}/docs" if name != "monitoring" else f"{url}/openapi.json"
        lines.append(f"{name:<11} {docs}   {url}/metrics")
    lines += ["", "Try it:"]
    lines.append(f"  curl '{urls['serving']}/v1/recommendations/{user_id}?n=5&attributes=true'")
    lines.append(
        f"  curl -u {plan.write_key}: {urls['ingestion']}/v1/track"
        " -H 'content-type: application/json' "
        f"""-d '{{"userId": "{user_id}", "event": "click", """
        f""""properties": {{"item_id": "{item_id}"}}}}'"""
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


CHANGE_LIMIT_S = 2.0
CLICKS = 3
SLATE = 10


class Click(NamedTuple):
    """A click that the demo sent, with its time in ms."""

    message_id: str
    user_id: str
    item_id: str
    timestamp: int


class Demo:
    """The demo on a local stack.

    Args:
        terminal: Where it tells of itself.
        movielens: A folder with MovieLens-100K, for machines that can't fetch it.
        garments: Whether a simulated shop of garments takes its place.
        placement: A placement that serving is to have in the end; "" for none.

    Attributes:
        clicks: The clicks that ingestion has accepted, in their order.
    """

    def __init__(
        self,
        plan: Plan,
        terminal: Terminal,
        movielens: Path | None = None,
        *,
        garments: bool = False,
        placement: str = "",
    ) -> None:
        self._plan, self._terminal, self._placement = plan, terminal, placement
        self._words = GARMENTS if garments else FILMS

        def files() -> EventFiles:
            if garments:
                return garment_files(plan, terminal)
            return movielens_files(plan, terminal, movielens)

        self._preparation = Preparation(plan, terminal, files)
        self._peers = self._preparation.peers
        self._films: dict[str, Film] = {}
        self.clicks: list[Click] = []

    def run(self, start: Callable[[], None]) -> EventFiles:
        """Run all steps; `start` starts the stack. Returns the files that were replayed.

        Raises:
            DemoError: A step failed.
        """
        began = time.perf_counter()
        files = self._preparation.run(start)
        interactions, items = pq.read_table(files.interactions), pq.read_table(files.items)
        visitors = contrasting_visitors(interactions, items)
        with self._preparation.explained():
            self._show(visitors, items)
            if self._placement:
                self._preparation.take_placement(self._placement)
        self._terminal.line(f"\nTime so far: {time.perf_counter() - began:.0f} s")
        other = visitors[-1].watched[0]
        self._terminal.show(where_to_look(self._plan, visitors[0].user_id, other))
        return files

    def _show(self, visitors: list[DemoVisitor], items: pa.Table) -> None:
        self._films = {row["item_id"]: row for row in items.to_pylist()}
        slates = [self._recommended(visitor.user_id) for visitor in visitors]
        for visitor, slate in zip(visitors, slates, strict=True):
            self._terminal.show(
                visitor_text(
                    visitor,
                    [self._films[item] for item in self._sequence(visitor.user_id)],
                    slate,
                    self._words,
                )
            )
        self._click(visitors[0], slates[0], slates[1:])

    def _sequence(self, user_id: str) -> list[str]:
        """Read the visitor's items, newest first, with the clicks of earlier demos."""
        detail = self._peers["features"].get(f"/v1/features/visitor/{user_id}")
        return [event["item_id"] for event in reversed(detail["sequence"])]

    def _recommended(self, user_id: str) -> list[dict[str, Any]]:
        # Lists of a batch count as not shown, as the demo's questions must.
        body = {"user_ids": [user_id], "n": SLATE}
        answer = self._peers["serving"].post("/v1/recommendations:batch", body)["lists"][0]
        if answer["answered_by"] != "model":
            raise DemoError(
                f"visitor {user_id} was answered by {answer['answered_by']}: {answer['reason']}."
                " If the champion was trained on other data, give the demo another --data-dir."
            )
        for item in answer["items"]:
            unknown = {"title": item["item_id"], "categories": []}
            item["attributes"] = self._films.get(item["item_id"], unknown)
        slate: list[dict[str, Any]] = answer["items"]
        return slate

    def _click(
        self, visitor: DemoVisitor, before: list[dict[str, Any]], others: list[list[dict[str, Any]]]
    ) -> None:
        """Send a click, and further ones only while the ten films stay the same."""
        known = {*visitor.watched, *self._sequence(visitor.user_id)}
        order = [item["item_id"] for item in before]

        def changed() -> list[dict[str, Any]] | None:
            now = self._recommended(visitor.user_id)
            return now if [item["item_id"] for item in now] != order else None

        for film in films_of_another_kind(visitor, known, others)[:CLICKS]:
            accepted = self._send_click(visitor.user_id, film["item_id"])
            while (after := changed()) is None and time.perf_counter() - accepted < CHANGE_LIMIT_S:
                time.sleep(0.002)
            elapsed = time.perf_counter() - accepted
            if after is not None:
                self._terminal.show(change(visitor.user_id, film, before, after, elapsed))
                return
            self._terminal.show(
                f"\nThe click on {film['attributes']['title']} did not change the list."
                " Trying another film:"
            )
        raise DemoError("no click changed the recommendations")

    def _send_click(self, user_id: str, item_id: str) -> float:
        """Send a click through ingestion; return the `time.perf_counter` of its acceptance."""
        now = time.time_ns()
        sent = Click(f"demo-{now}", user_id, item_id, now // 1_000_000)
        click = {
            "userId": user_id,
            "event": "click",
            "messageId": sent.message_id,
            "timestamp": sent.timestamp,
            "properties": {"item_id": item_id},
            "writeKey": self._plan.write_key,
        }
        self._peers["ingestion"].post("/v1/track", click)
        accepted = time.perf_counter()
        self.clicks.append(sent)
        return accepted
