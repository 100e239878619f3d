"""When experiments count, and which of them are in each other's way."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.experiments import ExperimentDesign, Variant

times = st.none() | st.integers(0, 6)
designs = st.builds(
    ExperimentDesign,
    placements=st.lists(st.sampled_from(["home", "cart", "item"]), min_size=1, max_size=2),
    variants=st.just([Variant(name="a"), Variant(name="b")]),
    starts_at=times,
    ends_at=times,
    state=st.sampled_from(["running", "stopped"]),
).filter(lambda it: it.ends_at is None or (it.starts_at or 0) < it.ends_at)


@given(designs, designs)
def test_two_collide_where_both_count_for_one_placement_at_some_moment(
    one: ExperimentDesign, other: ExperimentDesign
) -> None:
    together = any(one.counts(now) and other.counts(now) for now in range(9))
    shared = set(one.placements) & set(other.placements)
    assert one.collides(other) == other.collides(one) == (bool(shared) and together)
