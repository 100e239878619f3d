from hypothesis import given
from hypothesis import strategies as st

from slipstream.evaluation.findings import Finding, Weight, some
from slipstream_cli.doctor.findings import by_weight, exit_status

findings = st.lists(
    st.builds(Finding, st.text(max_size=3), st.sampled_from(Weight), *[st.just("")] * 3)
)


@given(findings)
def test_heaviest_findings_come_first_and_give_the_exit_status(found: list[Finding]) -> None:
    ordered = by_weight(found)
    assert [it.weight for it in ordered] == sorted((it.weight for it in found), reverse=True)
    for weight in Weight:  # those of one weight keep their order
        assert [it for it in ordered if it.weight == weight] == [
            it for it in found if it.weight == weight
        ]
    assert exit_status(found) == (ordered[0].weight if ordered else 0)


def test_many_names_are_cut() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert some(["x" * 90]) == "x" * 39 + "…"
