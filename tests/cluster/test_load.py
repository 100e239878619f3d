"""What a pod of load hands over is what its client saw."""

import itertools

import orjson

from tests.cluster.load.events import plain_events
from tests.cluster.load.pods import Answer, read_answers, read_events
from tests.faults.traffic import Traffic


def test_events_go_through_json_unchanged() -> None:
    messages = list(itertools.islice(Traffic(1, "k").messages(), 300))
    handed = {
        "acknowledged": plain_events(messages),
        "unacknowledged": [],
        "rejected": [],
        "figures": {"retried_requests": 5, "answers_lost": 3},
    }
    found = read_events(orjson.loads(orjson.dumps(handed)))
    assert [sent.events for sent in found.acknowledged] == [m.events for m in messages if m.events]
    assert found.failed == 2


def test_streams_of_two_names_share_no_id_and_no_visitor() -> None:
    one, other = (
        [e for m in itertools.islice(Traffic(1, name).messages(), 300) for e in m.events]
        for name in ("a", "b")
    )
    for field in ("event_id", "user_id"):
        assert not {getattr(e, field) for e in one} & {getattr(e, field) for e in other}


def test_answers_keep_the_order_of_their_items() -> None:
    assert read_answers([[1, "u0", 200, 2.5, "v1", ["b", "a"]]]) == [
        Answer(1, "u0", 200, 2.5, "v1", ("b", "a"))
    ]
