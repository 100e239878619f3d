"""What kubectl tells is read as Kubernetes means it."""

import pytest

from tests.cluster.kubectl import quantity


@pytest.mark.parametrize(
    ("text", "meant"),
    [("250m", 250), ("2", 2_000), ("1500000n", 1), ("7000u", 7), ("128Mi", 2**27), ("1Gi", 2**30)],
)
def test_a_quantity_is_in_thousandths_or_bytes(text: str, meant: int) -> None:
    assert quantity(text) == meant
