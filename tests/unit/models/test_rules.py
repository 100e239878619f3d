from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slipstream.models.rules import RulesParameters, rule_matrix
from tests.unit.models.logs import log_of

SEQUENCES = st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=6)
PLAIN = RulesParameters(window=3, distance_exponent=1.0)


@given(
    SEQUENCES,
    st.sampled_from([None, 1_500.0]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0.0, 0.4]),
)
def test_rules_are_what_adding_up_pair_by_pair_gives(
    sequences: list[list[int]],
    half_life_ms: float | None,
    backward: float,
    popularity_exponent: float,
) -> None:
    expected = np.zeros((6, 6))
    for sequence in sequences:
        for first, source in enumerate(sequence):
            for second, target in enumerate(sequence[first + 1 : first + 4], start=first + 1):
                if source != target:
                    apart = second - first
                    vote = (
                        1 / apart * (0.5 ** (apart * 1_000 / half_life_ms) if half_life_ms else 1)
                    )
                    expected[source, target] += vote
    expected = expected + backward * expected.T
    expected /= np.maximum(expected.sum(axis=0), 1e-9) ** popularity_exponent
    expected /= np.maximum(expected.sum(axis=1, keepdims=True), 1e-12)
    parameters = replace(
        PLAIN, half_life_ms=half_life_ms, backward=backward, popularity_exponent=popularity_exponent
    )
    np.testing.assert_allclose(
        rule_matrix(log_of(sequences, 6), parameters).toarray(), expected, atol=1e-5
    )
