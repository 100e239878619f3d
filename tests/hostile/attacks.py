"""Hostile requests, each the worst of its kind that reaches a service."""

import base64
import gzip
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from bench.load import basic_auth
from slipstream.chassis.access.page_tokens import signed_user
from slipstream.contracts.services import SERVICES
from slipstream.features.views import ITEM, ITEM_NEIGHBOURS, SESSION, VISITOR
from tests.hostile.bed import API_TOKEN, BROWSER_KEY, SERVER_KEY

# Stands for a number in prepared requests: another one each time, so that no event is a repeat.
_MARK: Final = "#NUMBER#"
_BROWSER: Final = {**basic_auth(BROWSER_KEY), "Origin": "https://shop.test"}
_TOKEN: Final = {"Authorization": f"Bearer {API_TOKEN}"}
# A route of each service that asks for credentials.
_GUARDED: Final = {
    "ingestion": "/v1/track",
    "features": "/get-online-features",
    "training": "/v1/runs",
    "serving": "/v1/rank",
    "monitoring": "/v1/keys",
}
WRONG_CREDENTIALS: Final = "wrong credentials"
_CHAIN: Final = b"[" * 900 + b'"a"' + b"]" * 900
# The user whom strangers' pages name, the visitor of such a page, and the item that it plants.
VICTIM, THIEF, PLANTED = "honest", "thief", "planted"
# The begin of the ids of items that pages alone lift.
LIFTED: Final = "lifted"
TRAILERS: Final = "credential in a trailer"
_ODD_METHODS: Final = ("PROPFIND", "MKCOL", "LOCK", "BIND", "ACL", "PURGE", "TRACE", "M-SEARCH")
_numbers = itertools.count(10_000_000)


class Attack(NamedTuple):
    """One kind of hostile client.

    Attributes:
        service: Whom it attacks.
        chunks: Makes what it sends, piece by piece.
        clients: Connections at once.
        pause_s: Pause between two pieces.
    """

    service: str
    chunks: Callable[[], Iterable[bytes]]
    clients: int = 2
    pause_s: float = 0.0


def _post(path: str, body: bytes, headers: Mapping[str, str] = _TOKEN) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def _prepared(service: str, request: bytes, clients: int = 2) -> Attack:
    mark = _MARK.encode()
    return Attack(service, lambda: [request.replace(mark, b"%d" % next(_numbers))], clients=clients)


def _event(number: int, name: str = "Product Viewed", **properties: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": name,
        "messageId": f"{_MARK}-{number}",
        "anonymousId": f"h{_MARK}-{number}",
        "properties": {"product_id": f"i{number}", **properties},
    }


def _link(number: int, user: str, **context: str) -> dict[str, Any]:
    ids = {"userId": user, "anonymousId": f"h{_MARK}-{number}"}
    return {"type": "identify", "messageId": f"{_MARK}-{number}", **ids, "context": context}


def _links(users: Sequence[str]) -> bytes:
    return orjson.dumps({"batch": [_link(number, user) for number, user in enumerate(users)]})


def _forged() -> bytes:
    """Links with tokens that name a key that counts, which has not signed them."""
    signed = signed_user(SERVER_KEY, VICTIM, "another", 600)
    links = [_link(number, VICTIM, userToken=f"{signed[:-9]}{number:09}") for number in range(300)]
    return orjson.dumps({"batch": links})


def _theft() -> bytes:
    """A link of the thief's own device to the victim, and an event in the victim's name."""
    link = _link(0, VICTIM) | {"anonymousId": THIEF}
    event = _event(1, product_id=PLANTED) | {"userId": VICTIM, "anonymousId": THIEF}
    return orjson.dumps({"batch": [link, event]})


def _repeats() -> bytes:
    """What one visitor says of one item, again and again."""
    views = [_event(n, product_id=f"{LIFTED}-by-one") | {"anonymousId": "one"} for n in range(400)]
    order = _event(400, "Order Completed", products=[f"{LIFTED}-by-order"] * 90)
    return orjson.dumps({"batch": [*views, order | {"anonymousId": "one"}]})


def _crowd() -> bytes:
    """What many visitors say who are made up."""
    products = ["i1", f"{LIFTED}-by-many"]
    return orjson.dumps(
        {"batch": [_event(n, "Order Completed", products=products) for n in range(150)]}
    )


def _in_a_trailer(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
    trailer = f"Authorization: Bearer {API_TOKEN}"
    return f"{head}Trailer: Authorization\r\n\r\n2\r\n{{}}\r\n0\r\n{trailer}\r\n\r\n".encode()


def _odd_requests() -> bytes:
    """Methods that no route has, at paths that are no route's."""
    return b"".join(
        _get(f"/v1/{_MARK}").replace(b"GET", method.encode(), 1) for method in _ODD_METHODS
    )


def _batch(events: int, size: int) -> bytes:
    return orjson.dumps({"batch": [_event(number, blob="x" * size) for number in range(events)]})


def _orders() -> bytes:
    products = [{"product_id": "a"}] * 49
    orders = [_event(n, "Order Completed", order_id="o", products=products) for n in range(500)]
    return gzip.compress(orjson.dumps({"batch": orders}))


def _tensor(data: bytes, size: int = 1) -> bytes:
    tensor = b'{"name":"user_id","shape":[%d],"datatype":"BYTES","data":[%s]}' % (size, data)
    return _post("/v2/models/recommender/infer", b'{"inputs":[%s]}' % tensor)


def _pixel() -> bytes:
    """An event in an address, with a number of its own: none can be put into the Base64 later."""
    event = orjson.dumps(_event(0, blob="x" * 30_000))
    event = event.replace(_MARK.encode(), b"%d" % next(_numbers))
    data = base64.urlsafe_b64encode(event).decode()
    return _get(f"/v1/pixel.gif?data={data}&writeKey={BROWSER_KEY}")


def _most_features() -> bytes:
    rows = {"user_id": [f"h{_MARK}-{number}" for number in range(1_000)], "item_id": ["i1"] * 1_000}
    features = [
        f"{view.name}:{name}"
        for view in (VISITOR, SESSION, ITEM, ITEM_NEIGHBOURS)
        for name in view.feature_names
    ]
    body = {"entities": rows, "features": features[:200], "full_feature_names": True}
    return _post("/get-online-features", orjson.dumps(body))


def _endless(first: bytes, piece: bytes) -> Iterator[bytes]:
    yield first
    for _ in range(42_000_000 // len(piece)):
        yield piece


def _unfinished(request: bytes) -> Iterator[bytes]:
    """A request with an end that comes slowly, a byte at a time."""
    yield request[:-100]
    for place in range(len(request) - 100, len(request)):
        yield request[place : place + 1]


def attacks() -> dict[str, Attack]:
    """Every kind of hostile client, by name."""
    zipped = {**_BROWSER, "Content-Encoding": "gzip"}
    wide = b'{"a":' * 20 + b"[" + b",".join([b"[]"] * 32_000) + b"]" + b"}" * 20
    wider = wide.replace(b"[],", b"[]," * 5, 32_000)
    items = [f"{number}".ljust(250, "x") for number in range(1_000)]
    rank = orjson.dumps({"user_id": f"h{_MARK}", "items": items})
    batch = orjson.dumps({"user_ids": items, "n": 20})
    visitors = ",".join(f'"h{_MARK}-{number}"' for number in range(64)).encode()
    found = {
        name: _prepared("ingestion", request)
        for name, request in {
            "largest events": _post("/v1/batch", _batch(15, 32_000), _BROWSER),
            "many events": _post("/v1/batch", _batch(500, 1), _BROWSER),
            "too many events": _post("/v1/batch", _batch(2_500, 1), _BROWSER),
            "gzip of many records": _post("/v1/batch", _orders(), zipped),
            "gzip bomb": _post("/v1/batch", gzip.compress(b" " * 100_000_000), zipped),
            "deep JSON": _post("/v1/batch", b'{"batch":[' + b"[" * 400_000, _BROWSER),
            "wide JSON": _post("/v1/track", wide, _BROWSER),
            "too wide JSON": _post("/v1/track", wider, _BROWSER),
            "links into one user": _post("/v1/batch", _links([VICTIM] * 500), _BROWSER),
            "links into many users": _post(
                "/v1/batch", _links([f"u{_MARK}-{number}" for number in range(500)]), _BROWSER
            ),
            "forged user tokens": _post("/v1/batch", _forged(), _BROWSER),
            "link to a victim": _post("/v1/batch", _theft(), _BROWSER),
            "repeats of one visitor": _post("/v1/batch", _repeats(), _BROWSER),
            "made-up visitors": _post("/v1/batch", _crowd(), _BROWSER),
            "without a key": _post("/v1/batch", _batch(100, 4_000)),
            "pipelined requests": _get("/health/live") * 3_000,
        }.items()
    }
    found["pixel"] = Attack("ingestion", lambda: [_pixel()])
    empty = b"{}," * 1_000_000 + b"{}"
    entities = b'{"entities":{"user_id":[%s]}}'
    found |= {
        "nested tensor": _prepared("serving", _tensor(_CHAIN + b',"a"' * 900_000)),
        "many inputs": _prepared(
            "serving", _post("/v2/models/recommender/infer", b'{"inputs":[%s]}' % empty)
        ),
        "largest inference": _prepared("serving", _tensor(visitors, 64)),
        "largest rank": _prepared("serving", _post("/v1/rank", rank)),
        "largest batch": _prepared("serving", _post("/v1/recommendations:batch", batch)),
        "most features": _prepared("features", _most_features()),
        "wide entities": _prepared(
            "features", _post("/get-online-features", entities % (b"{}," * 31_000 + b"{}"))
        ),
        "too wide entities": _prepared("features", _post("/get-online-features", entities % empty)),
    }
    for service in SERVICES:
        if service == "ingestion":
            body = _post("/v1/batch", b" " * 500_000, _BROWSER)
        else:
            path = "/get-online-features" if service == "features" else "/v1/rank"
            body = _post(path, b" " * 4_000_000)
        head = _get("/health/live")[:-2]
        guess = _post(_GUARDED[service], b"{}", {"Authorization": f"Bearer guess-{_MARK}"})
        found |= {
            f"odd methods to {service}": _prepared(service, _odd_requests()),
            f"{TRAILERS} to {service}": _prepared(service, _in_a_trailer(_GUARDED[service])),
            f"{WRONG_CREDENTIALS} to {service}": _prepared(service, guess),
            f"readiness of {service}": _prepared(service, _get("/health/ready"), clients=4),
            f"large header to {service}": Attack(
                service, partial(_endless, head + b"x: ", b"a" * 65_536)
            ),
            f"slow heads to {service}": Attack(
                service, partial(_endless, head, b"a: b\r\n"), clients=60, pause_s=2.0
            ),
            f"slow bodies to {service}": Attack(
                service, partial(_unfinished, body), clients=20, pause_s=2.0
            ),
        }
    return found
