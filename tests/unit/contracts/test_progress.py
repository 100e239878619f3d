import pytest

from slipstream.contracts.progress import ProgressStep


@pytest.mark.parametrize(
    ("step", "share"),
    [
        (ProgressStep("fitting", 0.25), 0.25),
        (ProgressStep("events", 300, 400), 0.75),
        (ProgressStep("events", 0, 0), 0.0),
        (ProgressStep("letters", 300, None), None),
    ],
)
def test_share_is_of_the_total(step: ProgressStep, share: float | None) -> None:
    assert step.share == share
