"""Figures and records of a made-up stack: its state, its flow, what passes."""

from dataclasses import dataclass
from math import sin
from typing import Any

from services.monitoring.probes import Champion, FeaturesStatus, Training
from services.monitoring.snapshot import MixDrift
from slipstream.contracts.rest import ModelVersion, Run
from slipstream.contracts.services import SERVICES
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.contracts.topics import TOPICS
from tests.screens.fake_shop import ITEMS, VISITORS, slate
from tests.unit.monitoring.builders import feature, service, snapshot

VERSION = "20261130-214100-a1b2c3"


@dataclass
class Figures:
    """The figures of a stack: `empty` before its first event, or `broken` in one of its parts."""

    empty: bool = False
    broken: bool = False

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
            "runbook": "/runbook/service_down.md",
            "acknowledged": None,
            "state": "open",
        }
        closed = alert | {
            "alert_id": "a0",
            "rule": "features_lagging",
            "severity": "warning",
            "summary": "features is 21,400 records behind",
            "opened_at": now - 9 * HOUR_MS,
            "closed_at": now - 9 * HOUR_MS + 400_000,
            "runbook": "/runbook/features_lagging.md",
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
        audit = {"at": now, "principal": "anna", "action": "set_placement", "subject": "home"}
        entries = [
            {
                "entry_id": "audit:1",
                "at": now,
                "kind": "audit",
                "summary": "set placement home, by anna",
                "decided_by": "request",
                "because": [],
                "audit": {"number": 1, "detail": {}, "request_id": "", **audit},
            },
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
        nodes: list[dict[str, Any]] = [
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
        found: list[tuple[str, str, float | None, int | None, int | None]] = []
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
