"""The flow of records: services, topics and stores as nodes, and what passes between them.

Nodes and edges follow from the tables of services and topics. Rates, lags and delays follow from
offsets of several moments, as the broker tells them: behind a balancer each look at a service's
metrics would meet another replica. A follower without a group commits no offset, so it has no lag.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, Field

from services.monitoring.probes import ServiceState
from slipstream.broker.gauge import Gauged, Offsets
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import INTERACTIONS, TOPICS, Topic

# Groups that share topics, by service. The others follow topics without a group.
GROUPS: Final = {"features": "features", "monitoring": "monitoring"}
# Stores with their titles, and the services that fill them; others read.
STORES: Final = {
    "redis": ("Redis", ("ingestion", "features")),
    "lake": ("Lake", ("features",)),
    "database": ("SQL database", ("training", "monitoring")),
}
# Seconds over which a rate is measured: consumers commit about once a second.
RATE_OVER_S: Final = 5.0


class FlowNode(BaseModel):
    """A service, topic or store. `state` is null where nothing is known."""

    name: str
    kind: Literal["service", "topic", "store"]
    title: str
    state: Literal["up", "unavailable", "asleep"] | None


class FlowEdge(BaseModel):
    """What passes from one node to another; null where it is not measured.

    Of a topic with several producers the rate stands at the first one.
    """

    source: str
    target: str
    rate: float | None = Field(None, description="records per second")
    lag: int | None = Field(
        None, description="records that the group has not committed, and features not applied"
    )
    delay_ms: int | None = Field(
        None,
        description="age of the oldest of those; at least this age where it is a minute or more",
    )
    drops: float | None = Field(
        None, description="records per second that were deleted before the group had read them"
    )


class Flow(BaseModel):
    """The flow at a moment (ms)."""

    at: int
    nodes: list[FlowNode]
    edges: list[FlowEdge]


class Moment(NamedTuple):
    """Offsets with the time (s, monotonic) at which they were read.

    `applied` are the offsets of interactions that features has applied, by partition, as its last
    updates told, and `delay_ms` how long the last batch took from acceptance until then.
    """

    at: float
    gauged: Gauged
    applied: Mapping[int, int] = {}
    delay_ms: int | None = None

    def read_by(self, group: str, name: str) -> Mapping[int, int]:
        """The offset in each partition of a topic up to which a group has come."""
        committed = self.gauged.committed.get(group, {}).get(name, {})
        if group != GROUPS["features"] or name != INTERACTIONS.name or not committed:
            return committed
        # Commits wait until effects are durable, which takes seconds.
        ends = self.gauged.ends.get(name, {})
        return {
            at: max(committed.get(at, 0), min(self.applied.get(at, 0), end))
            for at, end in ends.items()
        }


def nodes(services: Iterable[ServiceState], broker_answers: bool | None) -> list[FlowNode]:
    """All nodes: services in the order in which data passes them, topics, stores.

    Args:
        services: The answers of the newest round of checks; empty without one.
        broker_answers: Whether the broker does; None where it was not asked.
    """
    known = {each.name: each for each in services}
    found = [
        FlowNode(name=name, kind="service", title=name.capitalize(), state=_state(known.get(name)))
        for name in SERVICES
    ]
    of_topics = {None: None, True: "up", False: "unavailable"}[broker_answers]
    for topic in TOPICS:
        title = topic.name.partition(".")[0].replace("-", " ").capitalize()
        found.append(FlowNode.model_validate(
            {"name": topic.name, "kind": "topic", "title": title, "state": of_topics}
        ))  # fmt: skip
    for store, (title, _) in STORES.items():
        users = [known[name] for name in _users(store) if name in known]
        state: Literal["up", "unavailable"] | None = None
        if any(store in each.down for each in users):
            state = "unavailable"
        elif any(each.state == "ready" for each in users):
            state = "up"
        found.append(FlowNode(name=store, kind="store", title=title, state=state))
    return found


def edges(moments: Sequence[Moment]) -> list[FlowEdge]:
    """All edges, with what the moments tell of them, oldest first; one alone tells no rate."""
    found = [edge for topic in TOPICS for edge in _topic_edges(topic, moments)]
    for store, (_, writers) in STORES.items():
        for service in _users(store):
            pair = (service, store) if service in writers else (store, service)
            found.append(FlowEdge(source=pair[0], target=pair[1]))
    return found


def records_per_s(moments: Sequence[Moment], topic: Topic) -> float | None:
    """Records per second that came onto a topic; None where one moment alone is known."""
    return _rate([moment.gauged.ends for moment in moments], topic.name, moments)


def records_between(before: Moment, after: Moment, topic: Topic) -> int:
    """Records that came onto a topic between two moments."""
    known = before.gauged.ends.get(topic.name, {})
    now = after.gauged.ends.get(topic.name, {})
    return sum(max(0, end - known.get(at, 0)) for at, end in now.items())


# Age of an interaction that is not applied from which on it counts. Below, offsets and updates may
# just not have been read at the same time.
_WAITING_MS: Final = 1_000


def features_delay_ms(moments: Sequence[Moment]) -> int | None:
    """The time from the acceptance of interactions until features has applied them.

    It is that of the last batch, or the age of the oldest interaction that waits for a second and
    longer.
    """
    waiting = _delay_ms("features", INTERACTIONS.name, moments)
    last = moments[-1].delay_ms if moments else None
    return waiting if last is None or (waiting or 0) >= _WAITING_MS else last


def _users(store: str) -> list[str]:
    return [name for name, service in SERVICES.items() if store in service.servers]


def _state(service: ServiceState | None) -> Literal["up", "unavailable", "asleep"] | None:
    if service is None:
        return None
    if service.state == "asleep":
        return "asleep"
    return "up" if service.state == "ready" else "unavailable"


def _topic_edges(topic: Topic, moments: Sequence[Moment]) -> Iterable[FlowEdge]:
    name, through = topic.name, records_per_s(moments, topic)
    for place, producer in enumerate(topic.producers):
        yield FlowEdge(source=producer, target=name, rate=None if place else through)
    for consumer in topic.consumers:
        edge = FlowEdge(source=name, target=consumer, rate=through)
        group = GROUPS.get(consumer)
        if moments and group and moments[-1].gauged.committed.get(group, {}).get(name):
            read = [{name: moment.read_by(group, name)} for moment in moments]
            edge = FlowEdge(
                source=name,
                target=consumer,
                rate=_rate(read, name, moments),
                lag=_lag(read[-1], name, moments[-1]),
                delay_ms=_delay_ms(group, name, moments),
                drops=_drops(read, name, moments),
            )
        yield edge


def _span(moments: Sequence[Moment]) -> tuple[int, float]:
    """The place of the moment that rates begin at, and the seconds since; 0 s for none."""
    if not moments:
        return 0, 0.0
    newest = moments[-1].at
    begin = 0
    for place, moment in enumerate(moments):
        if newest - moment.at >= RATE_OVER_S:
            begin = place
    return begin, newest - moments[begin].at


def _rate(offsets: Sequence[Offsets], name: str, moments: Sequence[Moment]) -> float | None:
    begin, seconds = _span(moments)
    if seconds <= 0:
        return None
    # A partition that was not there before, or of a topic that was recreated, begins again.
    before, now = offsets[begin].get(name, {}), offsets[-1].get(name, {})
    return round(sum(max(0, end - before.get(at, end)) for at, end in now.items()) / seconds, 2)


def _lag(committed: Offsets, name: str, moment: Moment) -> int:
    ends = moment.gauged.ends.get(name, {})
    beginnings = moment.gauged.beginnings.get(name, {})
    # What the topic has no more is not left to read.
    return sum(
        max(0, end - max(committed.get(name, {}).get(at, 0), beginnings.get(at, 0)))
        for at, end in ends.items()
    )


def _delay_ms(group: str, name: str, moments: Sequence[Moment]) -> int | None:
    """The time since the end of a partition passed what the group has read, of the partition where
    that is longest; None where the group has committed nothing.
    """
    if not moments:
        return None
    newest = moments[-1]
    read = newest.read_by(group, name)
    if not read:
        return None
    longest = 0.0
    for partition, end in newest.gauged.ends.get(name, {}).items():
        offset = max(
            read.get(partition, 0), newest.gauged.beginnings.get(name, {}).get(partition, 0)
        )
        if offset < end:
            longest = max(longest, newest.at - _passed_at(partition, offset, name, moments))
    return round(longest * 1000)


def _passed_at(partition: int, offset: int, name: str, moments: Sequence[Moment]) -> float:
    """When the record at this offset came, between two moments as if records came evenly."""
    after = moments[-1]
    for before in reversed(moments):
        end = before.gauged.ends.get(name, {}).get(partition, 0)
        if end <= offset:
            later = after.gauged.ends.get(name, {}).get(partition, 0)
            share = (offset - end) / (later - end) if later > end else 0.0
            return before.at + share * (after.at - before.at)
        after = before
    return after.at


def _drops(committed: Sequence[Offsets], name: str, moments: Sequence[Moment]) -> float | None:
    begin, seconds = _span(moments)
    if seconds <= 0:
        return None
    lost = 0
    for partition, first in moments[-1].gauged.beginnings.get(name, {}).items():
        before = moments[begin].gauged.beginnings.get(name, {}).get(partition, first)
        read = committed[begin].get(name, {}).get(partition, first)
        lost += max(0, first - max(before, read))
    return round(lost / seconds, 2)


def measured(found: Iterable[FlowEdge]) -> list[Mapping[str, object]]:
    """The edges with figures, for those who look each second."""
    return [edge.model_dump() for edge in found if edge.rate is not None or edge.lag is not None]
