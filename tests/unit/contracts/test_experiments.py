"""When experiments count, and which of them are in each other's way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from slipstream.contracts.experiments import ExperimentDesign, Guard, Variant

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


def test_a_record_of_before_models_and_guards_has_their_defaults() -> None:
    older = {"placements": ["home"], "variants": [{"name": "a"}, {"name": "b"}]}
    design = ExperimentDesign.model_validate(older)
    assert [variant.model for variant in design.variants] == ["", ""]
    assert (design.guard, design.stopped_because) == (Guard(), "")
    assert (design.metric, design.least_effect, design.guardrails) == ("click_through", 0.05, [])


def test_a_kind_that_is_unknown_here_is_refused_rather_than_shown() -> None:
    newer = {"placements": ["home"], "kind": "later", "variants": [{"name": "a"}, {"name": "b"}]}
    with pytest.raises(ValidationError, match="kind"):
        ExperimentDesign.model_validate(newer)
