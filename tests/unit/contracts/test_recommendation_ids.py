"""Ids of recommendations: they are UUIDs of version 7, and tell when they were given."""

import uuid

import pytest

from slipstream.contracts.recommendation_ids import given_at, new_recommendation_id


def test_an_id_is_a_uuid_of_version_7_that_tells_its_time() -> None:
    given = new_recommendation_id(1_795_826_219_233)
    parsed = uuid.UUID(given)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert given_at(given) == 1_795_826_219_233
    assert new_recommendation_id(1_795_826_219_233) != given


def test_ids_are_in_the_order_of_their_times() -> None:
    assert sorted(map(new_recommendation_id, (3_000, 2_000, 1_000)))[0].startswith("0000000003e8")


@pytest.mark.parametrize(
    "text", ["", "a", "c285e0d08c1c4d4c88516a268cccd5b0", "01a21f9578e17" + "x" * 19]
)
def test_other_texts_tell_no_time(text: str) -> None:
    assert given_at(text) is None
