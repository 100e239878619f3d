"""Replays of answers across a swap of the model and a change of rules: how many lists are the same.

Visitors ask for lists of every kind: plain ones, filtered ones, of sessions, of similar, popular
and new items, in pages, with rules, diversity and exploration. Items change meanwhile. Then another
version is promoted, and the rules change. Answers of before and after are made again, in any order.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from bench.measurements import BenchmarkError, Measurement, percentiles
from bench.serving_rules import PLACEMENT, policy, with_rules

ANSWERS: Final = 1_000
# Answers between two changes of an item, and pauses in which the catalogue settles.
_BETWEEN_CHANGES: Final = 100
_SETTLING_S: Final = 2.0
# Longest wait for a promotion, for rules, and for the last slate in the lake.
_PATIENCE_S: Final = 120.0
_LISTED: Final = 60


class Asked(NamedTuple):
    """An answer: its kind, its id, and the number of changes of items before it."""

    kind: str
    recommendation_id: str
    changes: int


def run(
    urls: Mapping[str, str],
    write_key: str,
    visitors: Sequence[str],
    *,
    token: str = "",
    answers: int = ANSWERS,
    tell: Callable[[str], None] = lambda _: None,
    seed: int = 0,
) -> list[Measurement]:
    """Ask for answers before and after the changes, and replay them all.

    Args:
        tell: Takes words on the progress.

    Raises:
        BenchmarkError: The stack has one model only, or a request failed.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    chance = random.Random(seed)
    with httpx.Client(headers=headers, timeout=120) as client:
        shop = _Shop(client, urls, write_key)
        others = shop.other_versions()
        items = [each["item_id"] for each in shop.get("/v1/trending", n=_LISTED)["items"]]
        with_rules(urls["serving"], urls["monitoring"], items, headers)
        asks = _asks(chance, visitors, items)
        tell(f"asking for {answers:,} answers")
        asked = shop.ask(asks, answers // 2)
        shop.promote(others[0])
        shop.change_rules(items)
        asked += shop.ask(asks, answers - len(asked))
        shop.wait_for_slate(asked[-1].recommendation_id)
        # In no order, but those of one catalogue together: it is made for the first of them.
        chance.shuffle(asked)
        places = chance.sample(range(shop.changes + 1), shop.changes + 1)
        asked.sort(key=lambda each: places[each.changes])
        tell("replaying them")
        return _replayed(shop, asked)


def _replayed(shop: "_Shop", asked: Sequence[Asked]) -> list[Measurement]:
    took, same, kinds = list[float](), Counter[str](), Counter[str]()
    models, faults = Counter[str](), list[str]()
    began = time.perf_counter()
    for kind, recommendation_id, _ in asked:
        replay = shop.get(f"/v1/answers/{recommendation_id}")
        kinds[kind] += 1
        models[replay["model"] or "none"] += 1
        took.append(replay["took_ms"])
        if replay["identical"]:
            same[kind] += 1
        elif len(faults) < 5:
            faults.append(f"{kind} {recommendation_id}: {replay['difference']} {replay['reasons']}")
    seconds = time.perf_counter() - began
    by_kind = ", ".join(f"{kind} {same[kind]}/{count}" for kind, count in sorted(kinds.items()))
    by_model = ", ".join(f"{count} by model {name}" for name, count in models.items())
    total = sum(same.values())
    return [
        Measurement(
            name="identical lists",
            value=float(total),
            unit="answers",
            ceiling=float(len(asked)),
            ratio=total / len(asked),
            note="; ".join([by_model, f"{shop.changes} changes of three items", by_kind, *faults]),
        ),
        Measurement(
            name="replay of an answer",
            value=len(asked) / seconds,
            unit="answers/s",
            note="one after another, in no order but by catalogue; the slowest fetch one",
            **percentiles(took),
        ),
    ]


class _Shop:
    """The services of a shop."""

    def __init__(self, client: httpx.Client, urls: Mapping[str, str], write_key: str) -> None:
        self._client, self._urls, self._key = client, urls, write_key
        # Number of changes of items.
        self.changes = 0

    def get(self, path: str, service: str = "serving", **query: Any) -> Any:
        """The body of a GET."""
        return _body(self._client.get(f"{self._urls[service]}{path}", params=query))

    def ask(
        self, asks: Iterator[tuple[str, str, str, dict[str, Any]]], answers: int
    ) -> list[Asked]:
        """Ask for some answers; items change between them."""
        asked = list[Asked]()
        for number in range(answers):
            if number % _BETWEEN_CHANGES == 0:
                self._change_items()
            kind, method, path, wanted = next(asks)
            if method == "GET":
                answer = self.get(path, **wanted)
            else:
                url = f"{self._urls['serving']}{path}"
                answer = _body(self._client.post(url, json=wanted))
            asked.append(Asked(kind, answer["recommendation_id"], self.changes))
            cursor = answer["next_cursor"]
            if kind == "plain" and cursor and number % 5 == 0 and len(asked) < answers:
                following = self.get(path, **wanted, cursor=cursor)
                asked.append(Asked("page", following["recommendation_id"], self.changes))
            if len(asked) == answers:
                break
        return asked

    def _change_items(self) -> None:
        """Add an item, hide one and give one another price; then wait until serving has settled."""
        self.changes += 1
        listed = self.get("/v1/new", n=2, attributes=True)["items"]
        changed = [
            {**each["attributes"], "item_id": each["item_id"], "price": self.changes}
            for each in listed
        ]
        added = {**changed[0], "item_id": f"replayed-{time.time_ns()}"}
        changed[0]["available"] = False
        answer = self._client.post(
            f"{self._urls['ingestion']}/v1/items",
            json={"items": [added, *changed]},
            auth=(self._key, ""),
        )
        if _body(answer)["accepted"] != 1 + len(changed):
            raise BenchmarkError(f"ingestion does not take the items: {answer.text}")
        time.sleep(_SETTLING_S)

    def other_versions(self) -> list[str]:
        """Versions that are not in service. Raises `BenchmarkError` for none."""
        present = self.get("/v1/model")["version"]
        listed = self.get("/v1/models", "training", limit=50)["items"]
        others = [each["version"] for each in listed if each["version"] != present]
        if not others:
            raise BenchmarkError("only one model is registered: train another one to swap to")
        return others

    def promote(self, version: str) -> None:
        """Promote a version, and wait until it is in service."""
        path = f"/v1/models/{quote(version, safe='')}:promote"
        _body(self._client.post(f"{self._urls['training']}{path}"))
        _wait(lambda: self.get("/v1/model")["version"] == version, "the other model")

    def change_rules(self, items: Sequence[str]) -> None:
        """Give the placement other rules, and wait until serving has them."""
        changed = policy(items[::-1], "category") | {"exploration": 0.2, "seen": "hide"}
        changed["rules"] = changed["rules"][1:]
        body = {"user_id": "bench", "placement": PLACEMENT, "explain": True}
        _body(
            self._client.put(f"{self._urls['monitoring']}/v1/placements/{PLACEMENT}", json=changed)
        )

        def has_them() -> bool:
            path = f"{self._urls['serving']}/v1/recommendations"
            told = _body(self._client.post(path, json=body)).get("rules", ())
            return "first" not in {each["rule"] for each in told}

        _wait(has_them, "the other rules")

    def wait_for_slate(self, recommendation_id: str) -> None:
        """Wait until a slate is in the lake."""
        url = f"{self._urls['features']}/v1/slates/{recommendation_id}"
        _wait(lambda: self._client.get(url).status_code == 200, "the last slate in the lake")


def _asks(
    chance: random.Random, visitors: Sequence[str], items: Sequence[str]
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Requests of all kinds: kind, method, path, and query or body."""
    while True:
        visitor, item = quote(chance.choice(visitors), safe=""), quote(chance.choice(items))
        own = f"/v1/recommendations/{visitor}"
        events = [{"item_id": each} for each in chance.sample(items, 3)]
        kinds: list[tuple[str, str, str, dict[str, Any]]] = [
            ("plain", "GET", own, {"n": 10}),
            ("plain", "GET", own, {"n": 20}),
            ("filter", "GET", own, {"n": 10, "filter": "price < 50"}),
            ("rules", "GET", own, {"n": 10, "placement": PLACEMENT}),
            ("rules", "GET", own, {"n": 20, "placement": PLACEMENT}),
            ("explained", "GET", own, {"n": 10, "placement": PLACEMENT, "explain": True}),
            ("diverse", "GET", own, {"n": 10, "diversity": 0.7, "exploration": 0.3}),
            ("unknown visitor", "GET", "/v1/recommendations/nobody", {"n": 10}),
            ("similar", "GET", f"/v1/similar/{item}", {"n": 10}),
            ("popular", "GET", "/v1/popular", {"n": 10, "window": "month"}),
            ("trending", "GET", "/v1/trending", {"n": 10, "placement": PLACEMENT}),
            ("new", "GET", "/v1/new", {"n": 10}),
            ("bought together", "GET", f"/v1/bought-together/{item}", {"n": 10}),
            ("session", "POST", "/v1/sessions:recommend", {"n": 10, "events": events}),
            (
                "body",
                "POST",
                "/v1/recommendations",
                {
                    "user_id": visitor,
                    "events": events,
                    "placement": PLACEMENT,
                    "context": {"device": "phone"},
                    "boosts": [{"filter": "price > 20", "factor": 1.5}],
                },
            ),
        ]
        yield from chance.sample(kinds, len(kinds))


def _body(response: httpx.Response) -> Any:
    if response.status_code >= 400:
        raise BenchmarkError(f"{response.url} answered {response.status_code}: {response.text}")
    return response.json()


def _wait(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > until:
            raise BenchmarkError(f"waited for {what} in vain")
        time.sleep(0.2)
