"""Old samples of every topic's record still parse, and mean what they meant."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream.broker.records import decode, encode
from slipstream.contracts.topics import TOPICS, Topic

SAMPLES = Path(__file__).parent / "samples"


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_recorded_sample_still_parses_to_the_same_record(topic: Topic) -> None:
    sample = (SAMPLES / f"{topic.name}.json").read_bytes()
    record = decode(topic, sample)
    encoded = encode(record)
    assert holds(json.loads(encoded), json.loads(sample))
    assert json.loads(encoded).keys() == json.loads(sample).keys()
    assert decode(topic, encoded) == record


def holds(whole: Any, part: Any) -> bool:
    """Whether it says all that the part says, apart from fields that records have gained."""
    if isinstance(part, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(holds, whole, part))
    return bool(whole == part)


def test_every_topic_has_one_writer_per_kind_and_known_services() -> None:
    services = {"ingestion", "features", "training", "serving", "monitoring"}
    for topic in TOPICS:
        assert set(topic.producers) <= services and set(topic.consumers) <= services
        assert (
            len(topic.producers) == 1
            or (topic.name, topic.producers) == ("dead-letters.v1", ("ingestion", "features"))
            or topic.name == "access-key-uses.v1"
        )  # every service tells which keys it took
