"""Each answer is added once, however its record is delivered, and the sums are of all of them."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.monitoring.answers import MINUTE_MS, Answer, AnswerKey
from services.monitoring.answers_repository import add_answers, answered, expire_answers, latencies
from services.monitoring.quality import BUCKET_MS, Bucket, Counts
from tests.unit.monitoring.builders import database

START = 1_790_000_100_000 // BUCKET_MS * BUCKET_MS


def answer(
    offset: int, minute: int = 0, *, source: str = "t:0", step: str = "model", items: int = 3
) -> Answer:
    version = "1" if step == "model" else ""
    key = AnswerKey(START + minute * MINUTE_MS, version, step, "", "", "")
    return Answer(source, offset, key, items, 1.0 + offset)


def take(engine: Engine, *arrived: Answer) -> None:
    with engine.begin() as db:
        add_answers(db, arrived)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return database(tmp_path)


answers_of_two_sources = st.lists(
    st.builds(
        answer,
        st.just(0),
        st.integers(0, 9),
        source=st.sampled_from(["t:0", "t:1"]),
        step=st.sampled_from(["model", "trending"]),
        items=st.integers(0, 3),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(answers_of_two_sources, st.data())
def test_batches_that_come_again_change_nothing(
    given_ones: list[Answer], data: st.DataObject
) -> None:
    numbered, ends = list[Answer](), Counter[str]()
    for each in given_ones:
        ends[each.source] += 1
        numbered.append(each._replace(offset=ends[each.source], latency_ms=len(numbered) + 1.0))
    with TemporaryDirectory() as folder:
        engine = database(Path(folder))
        place = 0
        while place < len(numbered):
            size = data.draw(st.integers(1, 5))
            take(engine, *numbered[place : place + size])
            # A consumer that ended before it committed begins anywhere before.
            place = (
                data.draw(st.integers(max(0, place - 2), place + size)) if size > 1 else place + 1
            )
        take(engine, *numbered)
        found = answered(engine, START, START + 2 * BUCKET_MS)
        measured = latencies(engine, START)
        engine.dispose()
    sums: dict[Bucket, Counts] = {}
    for each in numbered:
        key = each.key
        bucket = Bucket(key.start - key.start % BUCKET_MS, key.model_version, key.answered_by)
        sums.setdefault(bucket, Counts()).add(Counts(1, each.items > 0, each.items))
    assert found == sums
    assert measured.count == len(numbered)
    assert measured.total == pytest.approx(sum(each.latency_ms for each in numbered))


def test_what_is_not_kept_is_added_when_it_comes_again(engine: Engine) -> None:
    with pytest.raises(KeyboardInterrupt), engine.begin() as db:
        add_answers(db, [answer(1)])
        raise KeyboardInterrupt
    take(engine, answer(1), answer(2))
    assert latencies(engine, START).count == 2


def test_a_topic_that_was_made_again_has_offsets_of_its_own(engine: Engine) -> None:
    take(engine, answer(5))
    take(engine, answer(0, source="u:0"))
    assert latencies(engine, START).count == 2


def test_only_the_times_that_are_asked_for_count_and_old_ones_go(engine: Engine) -> None:
    take(engine, answer(1), answer(2, 4), answer(3, 5))
    assert answered(engine, START + BUCKET_MS, START + 2 * BUCKET_MS) == {
        Bucket(START + BUCKET_MS, "1", "model"): Counts(1, 1, 3)
    }
    assert latencies(engine, START + 4 * MINUTE_MS).count == 2
    with engine.begin() as db:
        expire_answers(db, START + 5 * MINUTE_MS)
    assert latencies(engine, 0).count == 1
