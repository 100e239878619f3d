import random

from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import TOPICS_KEPT, StreamInteraction, advance


def record(source: str, offset: int) -> StreamInteraction:
    return StreamInteraction(
        source,
        offset,
        Interaction(
            event_id=f"{source}@{offset}",
            event_type="view",
            user_id="u",
            timestamp=1,
            received_at=1,
        ),
    )


@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_advance_takes_each_record_once_however_often_reading_starts_again(
    count: int, chance: random.Random
) -> None:
    log = {source: [record(source, offset) for offset in range(count)] for source in ("t:0", "t:1")}
    applied: dict[str, int] = {}
    taken: list[str] = []
    for _ in range(10):
        for source, records in log.items():
            start = chance.randrange(
                applied.get(source, -1) + 2
            )  # from anywhere up to the first record not yet taken
            applied, fresh = advance(applied, records[start : start + chance.randrange(count + 1)])
            taken += [record.interaction.event_id for record in fresh]
    for records in log.values():
        applied, fresh = advance(applied, records)
        taken += [record.interaction.event_id for record in fresh]
    assert sorted(taken) == sorted(
        r.interaction.event_id for records in log.values() for r in records
    )


def test_advance_leaves_the_given_offsets_as_they_were() -> None:
    before = {"t:0": 4}
    after, fresh = advance(before, [record("t:0", 4), record("t:0", 5)])
    assert (before, after, len(fresh)) == ({"t:0": 4}, {"t:0": 5}, 1)


def test_a_new_topic_id_begins_its_own_offsets() -> None:
    after, fresh = advance({"old:0": 99}, [record("new:0", 0)])
    assert (after, len(fresh)) == ({"old:0": 99, "new:0": 0}, 1)


def test_only_the_last_topic_ids_are_kept() -> None:
    applied: dict[str, int] = {}
    for incarnation in range(TOPICS_KEPT + 3):
        applied, _ = advance(
            applied, [record(f"t{incarnation}:{partition}", 0) for partition in range(12)]
        )
    assert {source.split(":")[0] for source in applied} == {
        f"t{n}" for n in range(3, TOPICS_KEPT + 3)
    }
    assert len(applied) == TOPICS_KEPT * 12


def test_a_log_that_parted_from_what_was_read_of_it_is_no_new_topic() -> None:
    applied: dict[str, int] = {}
    for epoch in range(TOPICS_KEPT + 3):
        applied, fresh = advance(applied, [record(f"t~{epoch}:{n}", 0) for n in range(2)])
        assert len(fresh) == 2
    assert len(applied) == 2 * (TOPICS_KEPT + 3), "no partition forgets what it has"
