"""A stand-in for monitoring: the console's pages under their policy, and made-up figures.

Bodies of routes are made from the services' own models where there are some. Pictures need every
state at will: an open alert, a peer that is away, a stream that breaks, a stack without data.
`python -m tests.screens.fake 8005` serves it, for `npm run dev`.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from slipstream.contracts.services import SERVICES
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.features.views import REGISTRY
from tests.screens.fake_figures import VERSION, Figures
from tests.screens.fake_shop import ITEMS, VISITORS, slate, visitor_items

STATIC = Path(__file__).parents[2] / "services" / "monitoring" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
TYPES = {".js": "text/javascript", ".css": "text/css"}


@dataclass
class Fake(Figures):
    """The state of the made-up stack, which a test changes as it runs."""

    needed: bool = False
    signed_in: bool = False
    shop: bool = True
    stream_down: bool = False
    away: set[str] = field(default_factory=set)
    clicks: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False

    async def stream(self, records: bool, wanted: dict[str, str]) -> AsyncIterator[str]:
        n = 0
        while not (self.stream_down or self.ended):
            yield f"event: figures\nid: {n}\ndata: {json.dumps(self.figures(n))}\n\n"
            for k in range(0 if self.empty or not records else 6):
                record = self.record(6 * n + k)
                if all(record[name] == value for name, value in wanted.items()):
                    yield f"event: record\ndata: {json.dumps(record)}\n\n"
            if records and not self.empty:
                share = json.dumps({"shown": 6, "of": 412, "dropped": 0})
                yield f"event: left_out\ndata: {share}\n\n"
            n += 1
            await asyncio.sleep(1)

    # -- peers

    def peer(self, name: str, path: str, request: Request, body: dict[str, Any]) -> Any:
        """The answer of another service; None for 404."""
        query = request.query_params
        n = int(body.get("n") or query.get("n") or 10)
        head, _, entity = path.removeprefix("v1/").partition("/")
        if name == "features" and head == "visitors":
            now = now_ms()
            items = [
                {"user_id": u, "last_seen": now - 9_000 * (i + 1) ** 2}
                for i, u in enumerate(VISITORS)
            ]
            return {"items": [] if self.empty else items}
        if name == "features" and head == "feature-views":
            views = [
                {
                    "name": v.name,
                    "description": v.description,
                    "kind": v.kind,
                    "entity": v.entity,
                    "join_key": v.join_key,
                    "join_keys": list(v.join_keys),
                    "ttl_s": v.ttl_s,
                    "fields": [
                        {
                            "name": f.name,
                            "dtype": f.dtype,
                            "default": f.default,
                            "description": f.description,
                        }
                        for f in v.fields
                    ],
                }
                for v in REGISTRY.views
            ]
            return {"items": views, "next_cursor": None}
        if name == "features" and head == "features":
            return self._features(*entity.split("/", 1))
        if name == "features" and head == "items":
            if not entity:
                return {"items": [self._item(i) for i in list(ITEMS)[:24]], "next_cursor": None}
            return self._item(entity) if entity in ITEMS else None
        if path == "v1/items:search":
            words = query["q"].lower()
            found = [i for i, a in ITEMS.items() if words in json.dumps(a).lower()]
            return {
                "items": [
                    {
                        "item_id": i,
                        "title": ITEMS[i]["title"],
                        "category": ITEMS[i]["categories"][0],
                        "brand": None,
                        "color": None,
                        "price": None,
                        "available": True,
                    }
                    for i in found
                ]
            }
        if path == "v1/previews":
            answer = slate(
                body.get("user_id", ""), n, explained=True, clicks=len(body.get("history", []))
            )
            counts = [(1682, 1682), (1682, 400), (400, 200), (200, 187), (187, n)]
            names = ("catalogue", "retrieval", "ranking", "rules", "arrangement")
            answer["stages"] = [
                {"name": name, "in": i, "out": o, "ms": ms}
                for name, (i, o), ms in zip(names, counts, (0.1, 1.9, 3.2, 0.4, 0.2), strict=True)
            ]
            answer["about"] = None
            if about := body.get("about"):
                place = next(
                    (i["position"] for i in answer["items"] if i["item_id"] == about), None
                )
                fell = {
                    "stage": "rules",
                    "reason": "rule",
                    "detail": "the rule “in stock” of placement "
                    f"{body.get('placement')} leaves it out",
                }
                answer["about"] = {
                    "item_id": about,
                    "position": place,
                    "fell": None if place is not None else fell,
                }
            return answer
        if head.startswith("users-for-item"):
            users = [
                {
                    "user_id": u,
                    "score": 0.02 / (i + 1),
                    "place": i + 1,
                    "active_at": now_ms() - 60_000 * i,
                }
                for i, u in enumerate(VISITORS[:5])
            ]
            return {
                "item_id": entity,
                "users": users,
                "looked_at": 943,
                "already_met": 31,
                "active_since": 0,
                "active_until": 0,
                "model_version": VERSION,
                "reason": "",
            }
        if head in (
            "recommendations",
            "similar",
            "bought-together",
            "recently-viewed",
            "trending",
            "popular",
        ):
            return slate(
                entity or body.get("user_id") or head,
                n,
                explained=bool(query.get("explain") or body.get("explain")),
                clicks=self.clicks,
            )
        return None

    def _item(self, item_id: str) -> dict[str, Any]:
        return {
            "item_id": item_id,
            "available": True,
            "attributes": ITEMS[item_id],
            "updated_at": now_ms() - HOUR_MS,
            "source": "demo",
        }

    def _features(self, view: str, entity: str) -> dict[str, Any] | None:
        if view.startswith("item") and entity not in ITEMS:
            return None
        if not view.startswith("item") and entity not in VISITORS:
            return None
        now = now_ms()
        declared = next(v for v in REGISTRY.views if v.name == view)
        values: dict[str, Any] = {f.name: f.default for f in declared.fields}
        values |= {
            k: v
            for k, v in {
                "events_1h": 3,
                "events_1d": 12,
                "history_length": 12,
                "views": 210,
                "clicks": 44,
                "hours_since_last": 0.2,
            }.items()
            if k in values
        }
        body = {
            "view": view,
            "entity_id": entity,
            "features": values,
            "counts": {"rate": 96, "click": 44},
            "first_seen": now - 90 * HOUR_MS,
            "last_seen": now - 9_000,
            "sequence": None,
            "impressions": None,
        }
        if view == "visitor":
            body["sequence"] = [
                {
                    "item_id": i,
                    "event_type": ("click", "view", "rate")[k % 3],
                    "timestamp": now - 400_000 * (12 - k),
                    "value": 4.0 if k % 3 == 2 else None,
                }
                for k, i in enumerate(reversed(visitor_items(entity)))
            ]
            body["impressions"] = []
        if view == "visitor_affinity":
            kinds = [k for i in visitor_items(entity)[:6] for k in ITEMS[i]["categories"]]
            values["category_values"] = sorted(set(kinds), key=lambda k: -kinds.count(k))[:6]
            values["category_shares"] = [
                round(kinds.count(k) / len(kinds), 3) for k in values["category_values"]
            ]
            values["top_category"] = values["category_values"][0]
        return body


def app(fake: Fake) -> Starlette:
    async def page(request: Request) -> Response:
        return Response(
            (STATIC / "index.html").read_bytes(),
            media_type="text/html",
            headers={"Content-Security-Policy": POLICY},
        )

    async def asset(request: Request) -> Response:
        path = STATIC / "assets" / request.path_params["name"]
        return Response(
            path.read_bytes(),
            media_type=TYPES[path.suffix],
            headers={"X-Content-Type-Options": "nosniff"},
        )

    def problem(status: int, code: str, detail: str) -> Response:
        return JSONResponse(
            {"title": code, "status": status, "detail": detail, "code": code}, status
        )

    async def session(request: Request) -> Response:
        if request.method == "POST":
            if (await request.json()) != {"credential": "right"}:
                return problem(
                    401, "invalid_token", "The credential is unknown, expired or revoked"
                )
            fake.signed_in = True
        if request.method == "DELETE":
            fake.signed_in = False
            return Response(status_code=204)
        signed = fake.needed and fake.signed_in
        return JSONResponse(
            {
                "needed": fake.needed,
                "signed_in": signed,
                "name": "key of ada" if signed else None,
                "scopes": ["read", "operate"] if signed else [],
                "expires_at": now_ms() + 12 * HOUR_MS if signed else None,
                "addresses": {name: SERVICES[name].local_url for name in ("ingestion", "serving")},
            }
        )

    async def api(request: Request) -> Response:
        path = request.path_params["path"]
        if path == "console":
            return JSONResponse(
                {
                    "shop": fake.shop,
                    "ingestion_url": str(request.base_url).rstrip("/"),
                    "browser_key": "shop-key",
                    "sign_in": fake.needed,
                    "version": "0",
                }
            )
        if fake.needed and not fake.signed_in:
            return problem(401, "missing_token", "This installation asks for a credential")
        if path == "stream":
            if fake.stream_down:
                return problem(503, "unavailable", "The instance has stopped")
            query = dict(request.query_params)
            records = query.pop("records", "") == "1"
            query.pop("figures", None)
            return StreamingResponse(fake.stream(records, query), media_type="text/event-stream")
        if path.startswith("peers/"):
            name, _, rest = path.removeprefix("peers/").partition("/")
            if name in fake.away:
                return problem(503, "peer_unavailable", f"{name} does not answer")
            body = await request.json() if request.method == "POST" else {}
            found = fake.peer(name, rest, request, body)
            return (
                JSONResponse(found)
                if found is not None
                else problem(404, "unknown_entity", "it has not been seen lately")
            )
        if path.startswith("visitors/") and path.endswith("/slates"):
            now, user = now_ms(), path.split("/")[1]
            made = slate(user, 6, explained=False)
            items = [
                {
                    "item_id": i["item_id"],
                    "source": i["source"],
                    "position": i["position"],
                    "clicked_at": now - 50_000 if i["position"] == 2 else None,
                }
                for i in made["items"]
            ]
            one = {
                "recommendation_id": made["recommendation_id"],
                "at": now - 70_000,
                "placement": "home",
                "model_version": VERSION,
                "experiment": "",
                "variant": "champion",
                "items": items,
            }
            found = [] if fake.empty else [one]
            return JSONResponse({"items": found, "since": now - 3_600_000})
        answers: dict[str, Callable[[], Any]] = {
            "overview": fake.overview,
            "timeline": fake.timeline,
            "reports/quality": fake.quality,
            "flow": fake.flow,
            "alerts": lambda: fake.alerts(request.query_params.get("state", "open")),
            "placements": lambda: {
                "items": [{"name": "home"}, {"name": "cart"}],
                "next_cursor": None,
            },
        }
        return JSONResponse(answers[path]()) if path in answers else problem(404, "not_found", path)

    async def batch(request: Request) -> Response:
        for event in (await request.json())["batch"]:
            fake.events.append(event)
            fake.clicks += event.get("event") in ("Product Clicked", "Product Viewed")
        return JSONResponse({"success": True, "results": []})

    return Starlette(
        routes=[
            Route("/v1/session", session, methods=["GET", "POST", "DELETE"]),
            Route("/v1/batch", batch, methods=["POST"]),
            Route("/v1/{path:path}", api, methods=["GET", "POST"]),
            Route("/assets/{name}", asset),
            Route("/{path:path}", page),
        ]
    )


class Server:
    """The stand-in on a port, in a thread."""

    def __init__(self, port: int) -> None:
        self.fake, self.url = Fake(), f"http://127.0.0.1:{port}"
        config = uvicorn.Config(
            app(self.fake), port=port, log_level="warning", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.fake.ended = True
        self._server.should_exit = True
        self._thread.join(10)


if __name__ == "__main__":
    uvicorn.run(app(Fake()), port=int(sys.argv[1]), log_level="warning")
