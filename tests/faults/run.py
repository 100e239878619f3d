"""One fault test: a stack, a client, a killer, and the reckoning."""

import signal
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from slipstream.broker.topics import physical
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import INTERACTIONS
from tests.e2e.stack import Stack, running, wait_for
from tests.faults.client import Client
from tests.faults.killer import Killer
from tests.faults.reckoning import Findings, Stores, reckon
from tests.servers import Servers, outside
from tests.topics import leaders

PATIENCE_S = 120.0
# Those of a cluster, of which each kill takes one.
BROKER = "broker"


@dataclass(frozen=True)
class Case:
    """`times` kills of each of `killed` (services, `redis`, `broker`) within `seconds`, under
    `rate` events a second. Everything follows from the seed but the machine's own timing.

    With several `brokers`, `broker` is one that leads a partition of the interactions, each in
    turn. What was killed may start again after one of `pauses_s`.
    """

    seconds: float
    times: int
    killed: tuple[str, ...] = tuple(SERVICES)
    rate: float = 300.0
    seed: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    brokers: int = 1
    pauses_s: tuple[float, ...] = (0.0,)


@dataclass
class Result:
    """What was done and what was found. `servers` with their versions, `kills` by name, `figures`
    of client and stores.
    """

    case: Case
    servers: str
    kills: dict[str, int]
    slowest_restart_s: float
    figures: dict[str, int]
    findings: Findings

    @property
    def faults(self) -> list[str]:
        """What is wrong, in words; empty when everything is exact."""
        return list(self.findings.lines())

    def table(self) -> str:
        figures, wrong = self.figures, self.findings.wrong
        others = [faults for kind, faults in wrong.items() if kind not in ("lost", "double")]
        rows = [
            ("servers", self.servers),
            ("kills", ", ".join(f"{name} ×{count}" for name, count in sorted(self.kills.items()))),
            ("down at most", f"{self.slowest_restart_s:.1f} s until a new process"),
            (
                "under load",
                f"{figures['seconds']:,} s, "
                f"{figures['events'] / max(1, figures['seconds']):.0f} events/s",
            ),
            ("messages sent", f"{figures['messages']:,} that make {figures['events']:,} events"),
            (
                "acknowledged",
                f"{figures['acknowledged']:,} messages, {figures['events_due']:,} events",
            ),
            ("of them as duplicates", f"{figures.get('duplicate', 0):,} messages"),
            (
                "sent again",
                f"{figures.get('retried_messages', 0):,} messages "
                f"in {figures.get('retried_requests', 0):,} requests",
            ),
            ("answers thrown away", f"{figures.get('answers_lost', 0):,} requests"),
            (
                "on the topic",
                f"{figures['records_on_topic']:,} records, "
                f"{figures['repeats_on_topic']:,} of them repeats",
            ),
            ("marked as maybe repeats", f"{figures['marked_maybe_repeat']:,} records"),
            ("in the lake", f"{figures['rows_in_lake']:,} rows"),
            (
                "in Redis",
                f"{figures['visitors']:,} visitors, {figures['visitors_merged']:,} merged, "
                f"{figures['items']:,} items",
            ),
            ("training runs", ", ".join(self._runs()) or "none"),
            ("lost", f"{len(wrong.get('lost', ())):,}"),
            ("double", f"{len(wrong.get('double', ())):,}"),
            (
                "anything else wrong",
                f"{sum(map(len, others)):,}",
            ),
        ]
        return "\n".join(f"{name:<24} {value}" for name, value in rows)

    def _runs(self) -> list[str]:
        prefix = "training_runs_"
        return [
            f"{count} {name.removeprefix(prefix)}"
            for name, count in self.figures.items()
            if name.startswith(prefix) and count
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "case": asdict(self.case),
            "servers": self.servers,
            "kills": self.kills,
            "slowest_restart_s": round(self.slowest_restart_s, 2),
            "figures": self.figures,
            "wrong": {
                kind: {"count": len(found), "such_as": found[:20]}
                for kind, found in self.findings.wrong.items()
            },
        }


def run(case: Case, directory: Path, servers: Servers) -> Result:
    """Start a stack on `directory` and on servers of its own, do it, and compare. All is stopped
    when this returns.
    """
    settings = {"SLIPSTREAM_TRAINING__NEW_EVENTS": "0", **case.settings}
    with (
        outside(servers, directory / "servers", case.brokers) as found,
        running(directory, found, **settings) as stack,
    ):
        client = Client(stack.urls["ingestion"], stack.write_key, case.seed, case.rate)
        killer = _killer(case, stack)
        killer.start()
        client.run(case.seconds, PATIENCE_S, lambda: killer.busy)
        killer.end()
        wait_for(
            lambda: all(_ready(stack, name) for name in SERVICES),
            "every service to be ready again",
            PATIENCE_S,
        )
        wait_for(
            lambda: stack.get("features", "/v1/status")["caught_up"],
            "features to have caught up",
            PATIENCE_S,
        )
        runs = _runs(stack)
        findings = reckon(_stores(stack), client.acknowledged, client.unacknowledged)
        for rejected in client.rejected:
            findings.say("rejected", rejected)
        for name, count in killer.left.items():
            findings.say(
                "not killed as often as it should be",
                f"{name}: {case.times - count} of {case.times}",
            )
        for one in filter(_under_way, runs):
            findings.say("training run that does not go on", str(one))
        figures = {**client.figures, **findings.figures, "acknowledged": len(client.acknowledged)}
        figures |= {
            f"training_runs_{state}": count
            for state, count in Counter(run["state"] for run in runs).items()
        }
        if status := stack.stop(signal.SIGTERM):
            findings.say("exit status", str(status))
    told = servers.versions + (f"; {case.brokers} brokers" if case.brokers > 1 else "")
    return Result(case, told, dict(killer.kills), killer.slowest_restart_s, figures, findings)


def _killer(case: Case, stack: Stack) -> Killer:
    topic = physical(stack.urls["namespace"], INTERACTIONS)

    def leader() -> str | None:
        """A broker that leads a partition, of those that were killed least."""
        leading = [f"{BROKER} {node}" for node in sorted(leaders(_kafka(stack), topic))]
        return min(leading, key=lambda name: killer.kills[name], default=None)

    killer = Killer(
        lambda: stack.processes,
        case.killed,
        case.times,
        case.seconds,
        case.seed,
        pauses=case.pauses_s,
        victim=lambda name: leader() if name == BROKER and case.brokers > 1 else name,
    )
    return killer


def _runs(stack: Stack) -> list[dict[str, Any]]:
    """Training's runs, once none is under way, or none of them has gone on for a while."""
    before: list[tuple[Any, ...]] = []
    since = time.monotonic()
    while True:
        runs: list[dict[str, Any]] = stack.get("training", "/v1/runs", limit=500)["items"]
        now = [(run["state"], run["stage"], run["progress"], run["epoch"]) for run in runs]
        if now != before:
            before, since = now, time.monotonic()
        if not any(map(_under_way, runs)) or time.monotonic() > since + PATIENCE_S:
            return runs
        time.sleep(0.5)


def _under_way(run: dict[str, Any]) -> bool:
    return run["state"] in ("queued", "running")


def _ready(stack: Stack, name: str) -> bool:
    return stack.clients[name].get("/health/ready").status_code == httpx.codes.OK


def _stores(stack: Stack) -> Stores:
    return Stores(
        _kafka(stack),
        RedisSettings(url=SecretStr(stack.urls["redis"])),
        LakeSettings(uri=str(stack.directory / "lake")),
        stack.urls["namespace"],
    )


def _kafka(stack: Stack) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=stack.urls["kafka"])
