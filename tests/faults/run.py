"""One fault test: a stack, a client, a killer, and the reckoning."""

import signal
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.training.runs import MOST_ATTEMPTS
from slipstream.broker.topics import physical
from slipstream.contracts.topics import INTERACTIONS
from tests.e2e.stack import wait_for
from tests.faults.bed import Bed, opened
from tests.faults.case import BROKER, Case
from tests.faults.client import Client
from tests.faults.fault_thread import FaultThread
from tests.faults.killer import Killer
from tests.faults.lists import Shopper, begin_experiment
from tests.faults.outcomes import compare_outcomes
from tests.faults.reckoning import reckon
from tests.faults.result import Result
from tests.faults.trouble import NoTrouble, Strikes, Trouble
from tests.faults.troubles import TROUBLES
from tests.faults.troubles.lost_writes import REDIS, redis_nodes
from tests.sentinels import primary
from tests.servers import RedisKind, Servers
from tests.topics import leaders

PATIENCE_S = 120.0
_REDIS_TOLD = {
    RedisKind.SINGLE: "",
    RedisKind.SENTINEL: "; Redis with two replicas and three Sentinels",
    RedisKind.CLUSTER: "; a Redis Cluster of three nodes, appendfsync {fsync}",
}


def run(case: Case, directory: Path, servers: Servers) -> Result:
    """Start a stack on `directory` and on servers of its own, do it, and compare. All is stopped
    when this returns.
    """
    trouble = TROUBLES[case.trouble](case.beside) if case.trouble else NoTrouble()
    with ExitStack() as prepared:
        settings = trouble.prepare(directory, prepared)
        case = replace(case, settings={**case.settings, **settings}, fsync=trouble.fsync)
        bed = prepared.enter_context(
            opened(case, directory, servers, lambda stack: trouble.surround(stack, prepared))
        )
        client = Client(bed.urls("ingestion"), bed.stack.write_key, case.seed, case.rate)
        troubler = _troubler(case, trouble, bed, client)
        shopper = Shopper(bed.urls("serving"), client.traffic, case.seed)
        if asking := not case.trouble:
            begin_experiment(bed.stack)
            shopper.start()
        troubler.start()
        client.run(case.seconds, PATIENCE_S, lambda: troubler.busy, at_most_s=case.limit_s)
        troubler.end()
        if asking:
            shopper.end()
        wait_for(lambda: not bed.unready(), "every process to be ready again", PATIENCE_S)
        wait_for(bed.caught_up, "features to have caught up", PATIENCE_S)
        runs = _runs(bed)
        findings = reckon(bed.stores, client.acknowledged, client.unacknowledged, len(client.urls))
        compare_outcomes(findings, bed.stack, bed.stores, PATIENCE_S, lists=asking)
        for rejected in client.rejected:
            findings.say("rejected", rejected)
        for name, count in troubler.left.items():
            findings.say("not brought about", f"{name}: {count} times {troubler.failure}")
        outcomes = Counter(map(_outcome, runs))
        for one in runs:
            if _under_way(one):
                findings.say("training run that does not go on", str(one))
            elif _outcome(one) == "failed":
                findings.say("training run that is not taken up", str(one))
        figures = {**client.figures, **findings.figures, "acknowledged": len(client.acknowledged)}
        figures["lists_answered"] = shopper.answered
        figures |= {f"training_runs_{outcome}": count for outcome, count in outcomes.items()}
        if status := bed.stack.stop(signal.SIGTERM):
            findings.say("exit status", str(status))
    told = servers.versions + (f"; {case.brokers} brokers" if case.brokers > 1 else "")
    told += f"; {case.partitions} partitions" if case.partitions else ""
    told += "; the lake on S3 (moto)" if case.bucket else ""
    told += _REDIS_TOLD[case.redis].format(fsync=case.fsync)
    return Result(case, told, dict(troubler.kills), troubler.slowest_restart_s, figures, findings)


def _troubler(case: Case, trouble: Trouble, bed: Bed, client: Client) -> FaultThread:
    if not case.trouble:
        return _killer(case, bed)
    return Strikes(trouble, trouble.strikes[: case.strikes], bed, client)


def _killer(case: Case, bed: Bed) -> Killer:
    topic = physical(bed.stores.namespace, INTERACTIONS)

    def leader() -> str | None:
        """A broker that leads a partition, of those that were killed least."""
        leading = [f"{BROKER} {node}" for node in sorted(leaders(bed.stores.kafka, topic))]
        return min(leading, key=lambda name: killer.kills[name], default=None)

    def victim(name: str) -> str | None:
        if name == BROKER and case.brokers > 1:
            return leader()
        if name != REDIS or case.redis is RedisKind.SINGLE:
            return name
        if case.redis is RedisKind.SENTINEL:
            return primary(bed.servers.children)
        return min(redis_nodes(bed.servers.children), key=lambda node: killer.kills[node])

    killer = Killer(
        lambda: bed.processes,
        case.kills_of_processes,
        case.seconds,
        case.seed,
        pauses=case.pauses_s,
        victim=victim,
    )
    return killer


def _runs(bed: Bed) -> list[dict[str, Any]]:
    """Training's runs, once none is under way, or none of them has gone on for a while."""
    before: list[tuple[Any, ...]] = []
    since = time.monotonic()
    while True:
        runs: list[dict[str, Any]] = bed.stack.get("training", "/v1/runs", limit=500)["items"]
        now = [(run["state"], run["stage"], run["progress"], run["epoch"]) for run in runs]
        if now != before:
            before, since = now, time.monotonic()
        if not any(map(_under_way, runs)) or time.monotonic() > since + PATIENCE_S:
            return runs
        time.sleep(0.5)


def _outcome(run: dict[str, Any]) -> str:
    """What came of a run: its state, or whether its last attempt was killed (docs/adr/0017)."""
    if run["state"] == "failed" and run["attempt"] == MOST_ATTEMPTS:
        return "given up"
    return str(run["state"])


def _under_way(run: dict[str, Any]) -> bool:
    return run["state"] in ("queued", "running")
