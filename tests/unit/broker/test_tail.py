"""The budget of a tail: so many records a second, however they come."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.broker.tail import Budget

PER_S = 2_000


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), max_size=60))
def test_no_more_is_taken_than_a_second_allows(turns: list[tuple[float, float]]) -> None:
    now = [0.0]
    budget, taken = Budget(PER_S, lambda: now[0]), list[tuple[float, int]]()
    for pause, share in turns:
        now[0] += pause
        left = budget.left()
        assert 0 <= left <= PER_S / 4
        budget.take(int(share * left))
        taken.append((now[0], int(share * left)))
    for begin, _ in taken:
        within = sum(count for at, count in taken if begin <= at < begin + 1)
        assert within <= PER_S * 1.25 + 1


def test_what_is_not_taken_is_not_saved_up() -> None:
    now = [0.0]
    budget = Budget(PER_S, lambda: now[0])
    budget.take(budget.left())
    assert budget.left() == 0
    now[0] += 0.1
    assert 199 <= budget.left() <= 200
    now[0] += 3600
    assert budget.left() == 500
