"""The flow: nodes and edges from the tables, and what offsets tell of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.console import flow
from services.monitoring.console.flow import FlowEdge, Moment
from services.monitoring.probes import ServiceState
from slipstream.broker.gauge import Gauged
from slipstream.contracts.services import SERVERS, SERVICES
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS, RECOMMENDATIONS, TOPICS

TOPIC = INTERACTIONS.name


def moment(
    at: float,
    ends: Mapping[int, int],
    committed: Mapping[int, int] | None = None,
    beginnings: Mapping[int, int] | None = None,
) -> Moment:
    """The offsets of interactions, and those that features has committed."""
    begun = beginnings or dict.fromkeys(ends, 0)
    groups = {"features": {TOPIC: committed or {}}, "monitoring": {}}
    return Moment(at, Gauged({TOPIC: ends}, {TOPIC: begun}, groups))


def edge(moments: Sequence[Moment], source: str, target: str) -> FlowEdge:
    (found,) = [e for e in flow.edges(moments) if (e.source, e.target) == (source, target)]
    return found


def state(name: str, state: str, down: Sequence[str] = ()) -> ServiceState:
    return ServiceState(name=name, state=state, down=list(down), latency_ms=1.0)  # type: ignore[arg-type]


def test_there_is_a_node_for_each_service_topic_and_store() -> None:
    nodes = flow.nodes([], None)
    assert [node.name for node in nodes] == [*SERVICES, *(t.name for t in TOPICS), *flow.STORES]
    assert {node.state for node in nodes} == {None}
    assert set(flow.STORES) | {"kafka"} == set(SERVERS)


def test_edges_follow_from_the_tables() -> None:
    pairs = {(e.source, e.target) for e in flow.edges([])}
    names = {node.name for node in flow.nodes([], None)}
    assert len(pairs) == len(flow.edges([])) and {n for pair in pairs for n in pair} <= names
    assert {("ingestion", TOPIC), (TOPIC, "features"), ("features", "redis")} <= pairs
    assert {("redis", "serving"), ("lake", "training"), ("training", "database")} <= pairs
    assert all(e.rate is None and e.lag is None for e in flow.edges([]))
    for store, (_, writers) in flow.STORES.items():
        assert set(writers) <= {name for name, s in SERVICES.items() if store in s.servers}


def test_states_are_those_of_the_checks() -> None:
    checked = [
        state("ingestion", "ready"),
        state("features", "unready", ["redis"]),
        state("training", "asleep"),
        state("serving", "away"),
    ]
    found = {node.name: node.state for node in flow.nodes(checked, True)}
    assert [found[name] for name in SERVICES] == [
        "up", "unavailable", "asleep", "unavailable", None,
    ]  # fmt: skip
    assert (found["redis"], found["database"], found[TOPIC]) == ("unavailable", None, "up")
    assert {n.state for n in flow.nodes([], False) if n.kind == "topic"} == {"unavailable"}


def test_rates_are_of_the_last_seconds() -> None:
    moments = [moment(float(at), {0: 10 * at, 1: 5 * at}, {0: 10 * at, 1: 0}) for at in range(20)]
    assert edge(moments, "ingestion", TOPIC).rate == 15
    assert edge(moments, TOPIC, "features").rate == 10
    assert flow.records_per_s(moments, INTERACTIONS) == 15
    assert flow.records_per_s(moments, RECOMMENDATIONS) == 0
    # A second producer of a topic, and a moment alone, have no rate.
    assert edge(moments, "features", DEAD_LETTERS.name).rate is None
    assert edge(moments, "ingestion", DEAD_LETTERS.name).rate == 0
    assert edge(moments[:1], "ingestion", TOPIC).rate is None


def test_a_group_lags_by_what_it_has_not_committed() -> None:
    now = [moment(1.0, {0: 100, 1: 50}, {0: 90})]
    assert edge(now, TOPIC, "features").lag == 60
    # What retention has deleted is not left to read.
    kept = [moment(1.0, {0: 100, 1: 50}, {0: 90}, {0: 95, 1: 40})]
    assert edge(kept, TOPIC, "features").lag == 15
    # A follower commits nothing, and of a group without an offset nothing is known.
    assert edge(now, TOPIC, "monitoring").lag is None
    assert edge(now, RECOMMENDATIONS.name, "features").lag is None


@pytest.mark.parametrize(
    ("committed", "delay_ms"),
    [(100, 0), (95, 500), (90, 1_000), (85, 1_500), (0, 10_000)],
)
def test_the_delay_is_the_age_of_the_oldest_record_that_is_left(
    committed: int, delay_ms: int
) -> None:
    moments = [moment(float(at), {0: 10 * at}, {0: committed}) for at in range(11)]
    assert edge(moments, TOPIC, "features").delay_ms == delay_ms
    assert flow.features_delay_ms(moments) == delay_ms


def test_a_delay_that_is_longer_than_what_is_remembered_is_at_least_that() -> None:
    moments = [moment(float(at), {0: 1_000 + at}, {0: 5}) for at in range(60)]
    assert flow.features_delay_ms(moments) == 59_000
    assert flow.features_delay_ms([]) is None
    assert flow.features_delay_ms([moment(1.0, {0: 5})]) is None


def test_features_delay_is_that_of_the_last_batch_until_something_waits_for_a_second() -> None:
    def looked(applied: int, at: float = 10.0) -> list[Moment]:
        """Interactions come until 10 s, ten a second; commits are four seconds behind."""
        before = [moment(float(at), {0: 10 * at}, {0: 10 * at - 40}) for at in range(11)]
        return [*before, moment(at, {0: 100}, {0: 60})._replace(applied={0: applied}, delay_ms=21)]

    assert flow.features_delay_ms(looked(100)) == 21
    assert flow.features_delay_ms(looked(95)) == 21, "read a moment before the offsets were"
    assert flow.features_delay_ms(looked(95, 30.0)) == 20_500, "frozen"
    assert flow.features_delay_ms(looked(101)) == 21, "the end is older than the update"
    assert edge(looked(98), TOPIC, "features").lag == 2
    other = looked(100)[-1]
    assert other.read_by("monitoring", TOPIC) == {}


def test_records_that_were_deleted_unread_are_drops() -> None:
    moments = [
        moment(0.0, {0: 100}, {0: 10}, {0: 0}),
        moment(10.0, {0: 200}, {0: 10}, {0: 60}),
    ]
    assert edge(moments, TOPIC, "features").drops == 5
    read = [moment(0.0, {0: 100}, {0: 80}, {0: 0}), moment(10.0, {0: 200}, {0: 90}, {0: 60})]
    assert edge(read, TOPIC, "features").drops == 0


offsets = st.dictionaries(st.integers(0, 3), st.integers(0, 1_000), min_size=1)


@given(st.lists(st.tuples(offsets, offsets, offsets), min_size=1, max_size=8))
def test_no_figure_is_negative_whatever_offsets_do(rows: list[tuple[Any, Any, Any]]) -> None:
    """Topics are recreated, groups rewind, and the embedded broker tells too low an end."""
    moments = [moment(float(at), *row) for at, row in enumerate(rows)]
    for found in flow.edges(moments):
        for figure in (found.rate, found.lag, found.delay_ms, found.drops):
            assert figure is None or figure >= 0
    assert (flow.features_delay_ms(moments) or 0) <= 1_000 * (len(rows) - 1)


def test_those_who_look_each_second_get_the_edges_with_figures() -> None:
    moments = [moment(0.0, {0: 0}, {0: 0}), moment(1.0, {0: 9}, {0: 4})]
    told = flow.measured(flow.edges(moments))
    assert {"source": TOPIC, "target": "features", "rate": 4.0, "lag": 5} in [
        {name: each[name] for name in ("source", "target", "rate", "lag")} for each in told
    ]
    assert len(told) < len(flow.edges(moments))
