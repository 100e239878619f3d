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
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from math import sin
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from services.monitoring.probes import Champion, FeaturesStatus, Training
from services.monitoring.snapshot import MixDrift
from slipstream.contracts.rest import ModelVersion, Run
from slipstream.contracts.services import SERVICES
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.contracts.topics import TOPICS
from slipstream.features.views import REGISTRY
from tests.screens.fake_shop import ITEMS, VISITORS, slate, visitor_items
from tests.unit.monitoring.builders import feature, service, snapshot

STATIC = Path(__file__).parents[2] / "services" / "monitoring" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
VERSION = "20261130-214100-a1b2c3"
TYPES = {".js": "text/javascript", ".css": "text/css"}


@dataclass
class Fake:
    """The state of the made-up stack, which a test changes as it runs."""

    empty: bool = False
    broken: bool = False
    needed: bool = False
    signed_in: bool = False
    shop: bool = True
    stream_down: bool = False
    away: set[str] = field(default_factory=set)
    clicks: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False

    # -- figures

    def overview(self) -> dict[str, Any]:
        now = now_ms()
        model = ModelVersion(
            version=VERSION,
            created_at=now - 3 * HOUR_MS,
            metrics={"ndcg@10": 0.129, "hit_rate@10": 0.241, "coverage@10": 0.61},
        )
        run = Run(
            run_id="20261130-214100-a1b2c3",
            state="succeeded",
            trigger="schedule",
            created_at=now - 3 * HOUR_MS,
            started_at=now - 3 * HOUR_MS,
            finished_at=now - 3 * HOUR_MS + 151_000,
            model_version=VERSION,
            decision="promoted",
            decision_reason="NDCG@10 .129 compared with .118, better by more than chance",
        )
        training = Training(reached=True, champion=Champion(model=model), runs=[run])
        if self.empty:
            training = Training(reached=True)
        states = [service(name) for name in SERVICES]
        if self.broken:
            states[3] = service("serving", "unready", ("kafka",))
        drift = (
            []
            if self.empty
            else [
                feature("brands", 0.31 if self.broken else 0.02, "critical"),
                feature("price", None, "unknown"),
                feature("history_length", 0.04, "stable"),
            ]
        )
        mix = MixDrift(
            psi=0.01,
            level="stable",
            before={"model": 0.94, "trending": 0.06},
            recent={"model": 0.91, "similar": 0.03, "trending": 0.06},
            before_slates=41_210,
            recent_slates=2_318,
        )
        seen = snapshot(
            services=states,
            training=training,
            features=FeaturesStatus(applied=100_000, lag=0, caught_up=True),
            delay_ms=None if self.empty else 84,
            drift=drift if self.broken or self.empty else drift[1:],
            mix=None if self.empty else mix,
            at=now,
        ).model_dump(mode="json")
        seen["drift"]["shifts"]["window_ms"] = HOUR_MS
        if not self.empty:
            seen["freshness"]["last_interaction_at"] = now - 2_000
        return {
            "snapshot": seen,
            "check_interval_s": 10,
            "model_events": []
            if self.empty
            else [
                {
                    "event": "promoted",
                    "model": "recommender",
                    "version": VERSION,
                    "alias": "champion",
                    "previous": "20261129-214100-d4e5f6",
                    "reason": run.decision_reason,
                    "metrics": {},
                    "timestamp": now - 3 * HOUR_MS + 152_000,
                }
            ],
        }

    def alerts(self, state: str) -> dict[str, Any]:
        now = now_ms()
        alert = {
            "alert_id": "a1",
            "rule": "service_down",
            "severity": "critical",
            "summary": "serving is not ready: kafka",
            "evidence": {"down": ["kafka"], "checks": 3},
            "action": "none",
            "opened_at": now - 240_000,
            "checked_at": now,
            "closed_at": None,
            "runbook": "docs/runbook/service_down.md",
            "acknowledged": None,
            "deliveries": [],
            "state": "open",
        }
        closed = alert | {
            "alert_id": "a0",
            "rule": "features_lagging",
            "severity": "warning",
            "summary": "features is 21,400 records behind",
            "opened_at": now - 9 * HOUR_MS,
            "closed_at": now - 9 * HOUR_MS + 400_000,
            "runbook": "docs/runbook/features_lagging.md",
            "state": "closed",
        }
        items = [] if self.empty else [alert] * self.broken if state == "open" else [closed]
        return {"items": items, "next_cursor": None}

    def timeline(self) -> dict[str, Any]:
        now = now_ms()
        overview = self.overview()
        if self.empty:
            return {"items": [], "next_cursor": None, "missing": []}
        run, model = overview["snapshot"]["training"]["runs"][0], overview["model_events"][0]
        rates = [
            {"value": v, "low": v - 0.01, "high": v + 0.01, "count": 90, "of": 1000}
            for v in (0.081, 0.094)
        ]
        entries = [
            {
                "entry_id": "model:1",
                "at": model["timestamp"],
                "kind": "model",
                "summary": model["reason"],
                "decided_by": "gate",
                "because": ["run:1"],
                "model": model,
                "click_through": {
                    "window_ms": 24 * HOUR_MS,
                    "version_before": model["previous"],
                    "before": rates[0],
                    "version_after": VERSION,
                    "after": rates[1],
                },
            },
            {
                "entry_id": "run:1",
                "at": run["created_at"],
                "kind": "run",
                "summary": "run succeeded, promoted",
                "decided_by": "trigger",
                "because": [],
                "run": run,
            },
            {
                "entry_id": "alert:a0",
                "at": now - 9 * HOUR_MS,
                "kind": "alert",
                "summary": "features is 21,400 records behind",
                "decided_by": "rule",
                "because": [],
                "alert": {
                    "alert_id": "a0",
                    "rule": "features_lagging",
                    "severity": "warning",
                    "action": "none",
                    "closed_at": now - 8 * HOUR_MS,
                    "evidence": {},
                    "acknowledged": None,
                },
            },
        ]
        return {"items": entries, "next_cursor": None, "missing": []}

    def quality(self) -> dict[str, Any]:
        now = now_ms()

        def rate(count: int, of: int) -> dict[str, Any]:
            value = count / of if of else None
            low, high = (value * 0.92, value * 1.08) if value is not None else (0, 1)
            return {"value": value, "low": low, "high": high, "count": count, "of": of}

        def row(
            version: str | None, start: int | None, slates: int, clicked: int
        ) -> dict[str, Any]:
            return {
                "model_version": version,
                "answered_by": None,
                "start": start,
                "slates": slates,
                "shown": slates,
                "items": slates * 10,
                "click_through": rate(clicked, slates),
                "conversion": rate(clicked // 7, slates),
                "item_click_through": rate(clicked, slates * 10),
                "item_conversion": rate(clicked // 7, slates * 10),
            }

        slates = 0 if self.empty else 43_528
        versions = [(VERSION, 39_800, 3_741), ("", 3_728, 190)]
        return {
            "from": now - 24 * HOUR_MS,
            "until": now,
            "window_ms": 1_800_000,
            "total": row(None, None, slates, slates // 11),
            "by_model": [] if self.empty else [row(v, None, n, c) for v, n, c in versions],
            "by_answered_by": [],
            "series": []
            if self.empty
            else [
                row(v, now - (24 - h) * HOUR_MS, 1000, int(80 + 20 * sin(h / 3)))
                for v, _, _ in versions
                for h in range(24)
            ],
        }

    def flow(self) -> dict[str, Any]:
        kinds = dict.fromkeys(SERVICES, "service")
        nodes = [
            {"name": name, "kind": kind, "title": name, "state": "up"}
            for name, kind in kinds.items()
        ]
        nodes += [
            {"name": topic.name, "kind": "topic", "title": topic.carries, "state": None}
            for topic in TOPICS
        ]
        nodes += [
            {"name": name, "kind": "store", "title": title, "state": "up"}
            for name, title in (("redis", "Redis"), ("lake", "Lake"), ("database", "SQL"))
        ]
        return {"at": now_ms(), "nodes": nodes, "edges": self.edges()}

    def edges(self) -> list[dict[str, Any]]:
        found = []
        for topic in TOPICS:
            base = {
                "interactions.v1": 412.0,
                "recommendations.v1": 96.0,
                "feature-updates.v1": 380.0,
            }
            rate = 0.0 if self.empty else base.get(topic.name, 0.2)
            late = self.broken and topic.name == "interactions.v1"
            for place, name in enumerate(topic.producers):
                found.append((name, topic.name, None if place else rate, None, None))
            for name in topic.consumers:
                lag = 21_400 if late and name == "features" else 3
                found.append((topic.name, name, rate, lag, 51_000 if lag > 3 else 84))
        found += [
            ("features", "redis", 400.0, None, 3),
            ("features", "lake", 400.0, None, None),
            ("lake", "training", None, None, None),
            ("redis", "serving", 96.0, None, None),
            ("training", "database", None, None, None),
            ("monitoring", "database", None, None, None),
        ]
        names = ("source", "target", "rate", "lag", "delay_ms")
        return [
            dict(zip(names, each, strict=True))
            | {"drops": 2.0 if each[1] == "dead-letters.v1" and self.broken else 0.0}
            for each in found
        ]

    def figures(self, n: int) -> dict[str, Any]:
        wave = 0 if self.empty else 1
        return {
            "at": now_ms(),
            "events_per_s": wave * round(400 + 60 * sin(n / 7) + 20 * sin(n), 1),
            "answers_per_s": wave * round(96 + 14 * sin(n / 5), 1),
            "features_delay_ms": None if self.empty else 84 + round(20 * sin(n / 3)),
            "alerts": int(self.broken),
            "edges": self.edges() if n % 5 == 0 else [],
        }

    def record(self, n: int) -> dict[str, Any]:
        ids = list(ITEMS)
        user, item, now = VISITORS[n % len(VISITORS)], ids[n * 7 % len(ids)], now_ms()
        base = {
            "partition": n % 12,
            "offset": 100_000 + n,
            "at": now,
            "request_id": f"7f3a{n:08x}",
            "visitor": user,
            "item": item,
            "placement": None,
            "code": None,
        }
        if n % 5 == 1:
            value = slate(user, 5, explained=False) | {"timestamp": now, "placement": "home"}
            return base | {
                "topic": "recommendations.v1",
                "kind": "slate",
                "item": None,
                "placement": "home",
                "value": value,
            }
        if n % 5 == 2:
            return base | {
                "topic": "feature-updates.v1",
                "kind": "feature_update",
                "item": None,
                "value": {
                    "view": "visitor",
                    "entity_id": user,
                    "features": {"events_1h": 3},
                    "watermark": now - 80,
                    "updated_at": now,
                },
            }
        if n % 11 == 4:
            return base | {
                "topic": "dead-letters.v1",
                "kind": "dead_letter",
                "code": "invalid_timestamp",
                "value": {
                    "source": "web",
                    "code": "invalid_timestamp",
                    "reason": "the timestamp is 9 days in the future",
                    "field": "timestamp",
                    "original": {"event": "Product Viewed"},
                    "received_at": now,
                    "request_id": base["request_id"],
                },
            }
        kind = ("view", "click", "impression", "cart")[n % 4]
        return base | {
            "topic": "interactions.v1",
            "kind": kind,
            "value": {
                "event_id": f"e{n}",
                "event_type": kind,
                "user_id": user,
                "item_id": item,
                "timestamp": now - 140,
                "received_at": now - 80,
            },
        }

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
        n = int(body.get("n") or query.get("n", 10))
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
                    "detail": "the rule “in stock” of placement home leaves it out",
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
            return JSONResponse({"items": [] if fake.empty else [one]})
        answers = {
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
