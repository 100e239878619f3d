"""Random HTTP requests to serving: every route, every parameter, sound values and others."""

import random
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson

# Filters over the attributes of the shop's items; the last ones name nothing, or can't be read.
FILTERS = (
    "price < 200",
    "price >= 100 and brand == 'nike'",
    "brand in ['puma', 'asics'] or sponsored",
    "not seen and price <= 250",
    "shelf in seen",
    "'red' in colours",
    "item_id == 'item-07'",
    "colour == 'blue'",
    "price <",
)
BOOSTS = (
    {"filter": "brand == 'puma'", "factor": 4.0},
    {"filter": "price > 150", "factor": 0.2},
    {"filter": "sponsored", "factor": 50},
)
TYPES = ("view", "click", "cart", "purchase", "rate")
PLACEMENTS = ("home", "ruled", "varied", "exploring", "paused", "tested", "shadowed")


class Sent(NamedTuple):
    """A request: method, path with query, headers and body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def requests(
    chance: random.Random, visitors: list[str], items: list[str], count: int
) -> list[Sent]:
    """Random requests of these visitors, about these items and some others."""
    drawing = _Drawing(chance, visitors, [*items, "nothing-of-the-kind", "ü/1"])
    return [drawing.request(number) for number in range(count)]


class _Drawing:
    def __init__(self, chance: random.Random, visitors: list[str], items: list[str]) -> None:
        self._chance, self._visitors, self._items = chance, visitors, items
        self._kinds = (
            *[self._recommendations] * 10,
            *[self._by_body] * 8,
            *[self._sessions] * 4,
            *[self._rank] * 6,
            *[self._similar] * 4,
            *[self._list] * 6,
            *[self._batch] * 2,
            self._together,
            self._audience,
            self._inference,
            self._model,
        )

    def request(self, number: int) -> Sent:
        method, path, query, body = self._chance.choice(self._kinds)()
        if query:
            path += f"?{urlencode(query, doseq=True)}"
        headers = {"host": "127.0.0.1:8004", "x-request-id": f"r-{number}"}
        if self._maybe(0.15):
            headers["cache-control"] = self._chance.choice(["no-cache", "max-age=0, No-Cache"])
        if body is None:
            return Sent(method, path, headers, b"")
        headers["content-type"] = "application/json"
        return Sent(method, path, headers, orjson.dumps(body))

    def _maybe(self, share: float) -> bool:
        return self._chance.random() < share

    def _some(self, most: int) -> list[str]:
        return [self._chance.choice(self._items) for _ in range(self._chance.randint(1, most))]

    def _visitor(self) -> str:
        return self._chance.choice(self._visitors)

    def _slate(self) -> dict[str, Any]:
        chance, query = self._chance, dict[str, Any]()
        if self._maybe(0.6):
            query["n"] = chance.choice([1, 3, 5, 5, 10, 12, 30, 100])
        if self._maybe(0.2):
            query["exclude"] = self._some(4)
        if self._maybe(0.3):
            query["placement"] = chance.choice([*PLACEMENTS, "unheard-of"])
        if self._maybe(0.2):
            query["filter"] = chance.choice(FILTERS)
        if self._maybe(0.1):
            query["diversity"] = chance.choice([0.0, 0.3, 1.0])
        if self._maybe(0.1):
            query["attributes"] = True
        if self._maybe(0.1):
            query["fields"] = chance.choice([["price"], ["brand,title", "shelf"]])
        if self._maybe(0.1):
            query["cursor"] = chance.choice(
                ["1WyJpdGVtLTAzIiwiaXRlbS0wNCJd", "1WyJpdGVtLTMwIiwiaTUiXQ", "1abc", ""]
            )
        if self._maybe(0.03):
            query[chance.choice(["n", "diversity", "exclude"])] = chance.choice(["x", -1, 101])
        return query

    def _personal(self) -> dict[str, Any]:
        query = self._slate()
        if self._maybe(0.08):
            query["exploration"] = self._chance.choice([0.0, 0.4])
        if self._maybe(0.05):
            query["deadline_ms"] = 60_000
        if self._maybe(0.08):
            query["explain"] = True
        return query

    def _events(self) -> list[dict[str, Any]]:
        with_times = self._maybe(0.5)
        return [
            {"item_id": item_id, "event_type": self._chance.choice(TYPES)}
            | ({"timestamp": self._chance.randint(1, 10**12)} if with_times else {})
            | ({"value": self._chance.choice([1, 4.5])} if self._maybe(0.2) else {})
            for item_id in self._some(6)
        ]

    def _body(self) -> dict[str, Any]:
        body = self._personal()
        if self._maybe(0.2):
            body["context"] = {"country": self._chance.choice(["DE", "AT"]), "device": "phone"}
        if self._maybe(0.2):
            body["boosts"] = self._chance.sample(BOOSTS, self._chance.randint(1, 2))
        return body

    def _recommendations(self) -> tuple[str, str, Any, Any]:
        if self._maybe(0.4):  # plain, and so perhaps kept
            query = {"n": 10} if self._maybe(0.5) else {}
            return "GET", f"/v1/recommendations/{quote(self._visitor(), safe='')}", query, None
        path = f"/v1/recommendations/{quote(self._visitor(), safe='')}"
        return "GET", path, self._personal(), None

    def _by_body(self) -> tuple[str, str, Any, Any]:
        body = self._body() | {"user_id": self._visitor()}
        if self._maybe(0.3):
            body["events"] = self._events()
        return "POST", "/v1/recommendations", None, body

    def _sessions(self) -> tuple[str, str, Any, Any]:
        body = self._body() | {"events": self._events() if self._maybe(0.9) else []}
        if self._maybe(0.3):
            body["anonymous_id"] = self._visitor()
        return "POST", "/v1/sessions:recommend", None, body

    def _rank(self) -> tuple[str, str, Any, Any]:
        items: list[Any] = [
            {"item_id": item_id, "features": {"price": self._chance.randint(0, 300), "near": True}}
            if self._maybe(0.3)
            else item_id
            for item_id in self._some(20)
        ]
        if self._maybe(0.05):
            items = [each for each in self._items for _ in range(6)]
        body: dict[str, Any] = {"user_id": self._visitor(), "items": items}
        if self._maybe(0.5):
            body["placement"] = self._chance.choice(PLACEMENTS)
            body["rules"] = self._maybe(0.7)
        if self._maybe(0.3):
            body["filter"] = self._chance.choice(FILTERS)
        if self._maybe(0.3):
            body["boosts"] = self._chance.sample(BOOSTS, 2)
        for flag in ("attributes", "explain", "shown"):
            if self._maybe(0.2):
                body[flag] = True
        if self._maybe(0.2):
            body["context"] = {"country": "DE"}
        return "POST", "/v1/rank", None, body

    def _similar(self) -> tuple[str, str, Any, Any]:
        query = self._slate()
        if self._maybe(0.5):
            query["user_id"] = self._visitor()
        if self._maybe(0.5):
            query["personal"] = True
        name = self._chance.choice(["similar", "similar", "bought-together"])
        if name == "bought-together":
            query.pop("personal", None)
        return "GET", f"/v1/{name}/{quote(self._chance.choice(self._items), safe='')}", query, None

    def _list(self) -> tuple[str, str, Any, Any]:
        query = self._slate()
        name = self._chance.choice(["trending", "popular", "new", "recently-viewed"])
        if name == "recently-viewed":
            return "GET", f"/v1/{name}/{quote(self._visitor(), safe='')}", query, None
        if name == "popular" and self._maybe(0.7):
            query["window"] = self._chance.choice(["hour", "day", "week", "year"])
        if self._maybe(0.3):
            query["user_id"] = self._visitor()
        return "GET", f"/v1/{name}", query, None

    def _together(self) -> tuple[str, str, Any, Any]:
        return "POST", "/v1/bought-together", None, self._slate() | {"items": self._some(4)}

    def _batch(self) -> tuple[str, str, Any, Any]:
        body = {name: self._slate().get(name) for name in ("n", "exclude", "placement", "filter")}
        body = {name: value for name, value in body.items() if value is not None}
        visitors = [self._visitor() for _ in range(self._chance.randint(1, 5))]
        return "POST", "/v1/recommendations:batch", None, body | {"user_ids": visitors}

    def _audience(self) -> tuple[str, str, Any, Any]:
        query = {"n": 5, "include_met": self._maybe(0.5)}
        return "GET", f"/v1/users-for-item/{quote(self._chance.choice(self._items))}", query, None

    def _inference(self) -> tuple[str, str, Any, Any]:
        visitors = [self._visitor() for _ in range(self._chance.randint(1, 3))]
        tensor = {
            "name": "user_id", "datatype": "BYTES", "shape": [len(visitors)], "data": visitors,
        }  # fmt: skip
        body = {"inputs": [tensor], "parameters": {"n": 4}}
        return "POST", "/v2/models/recommender/infer", None, body

    def _model(self) -> tuple[str, str, Any, Any]:
        path = self._chance.choice(["/v1/model", "/v1/recommendations", "/v1/nothing", "/v2"])
        return "GET", path, None, None
