"""Events held out, and where the champion's data move the cut."""

import numpy as np
import pytest

from services.training.run.dataset import read_dataset
from services.training.run.held_out import hold_out
from services.training.settings import TrainingSection
from slipstream.models.base import EventWeights
from slipstream.stores.lake import Lake
from tests.unit.training.histories import events, write


@pytest.mark.parametrize(
    ("champion_until", "questions", "cut", "unseen"),
    [
        (None, 600, 900, True),
        (899, 600, 900, True),
        (900, 600, 901, True),
        (979, 600, 980, True),
        (980, 600, 900, False),
        (5_000, 600, 900, False),
        # so much is newer that the challenger's validation and the test are both new to the
        # champion
        (899, 50, 950, True),
        (699, 50, 900, True),
        (949, 50, 950, True),
        (949, 25, 975, True),
    ],
)
def test_hold_out_moves_past_what_the_champion_was_fitted_on(
    lake: Lake, champion_until: int | None, questions: int, cut: int, unseen: bool
) -> None:
    write(lake, events([(f"v{n % 5}", f"i{n % 7}", "view", n) for n in range(1_000)]))
    dataset = read_dataset(lake)
    settings = TrainingSection(test_share=0.1, max_test_queries=20)
    held_out = hold_out(
        dataset, dataset.signals(EventWeights()), champion_until, settings, questions
    )
    assert (held_out.cut, held_out.unseen_by_champion) == (cut, unseen)
    times = dataset.interactions["timestamp"].to_numpy()
    assert times[held_out.fit].max() < cut <= times[held_out.test].min()
    assert not np.isin(np.flatnonzero(held_out.fit), held_out.test).any()
