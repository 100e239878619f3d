"""Events held out of a fit, for the questions that challenger and champion are asked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.training.run.dataset import Dataset, Rows, TooLittleDataError
from services.training.settings import TrainingSection
from slipstream.recommender.holdout import sample


@dataclass(frozen=True)
class EvaluationSplit:
    """Split of the history into events to fit the challenger on, and events to ask about.

    Attributes:
        fit: Mask of the events to fit on.
        test: Rows of the events to ask about.
        cut: Time of the first event held out (ms).
        unseen_by_champion: Whether the champion was fitted on none of the test.
    """

    fit: NDArray[np.bool_]
    test: Rows
    cut: int
    unseen_by_champion: bool


def hold_out(
    dataset: Dataset,
    signals: NDArray[np.bool_],
    champion_until: int | None,
    settings: TrainingSection,
    validation_queries: int,
) -> EvaluationSplit:
    """Hold out the last share of the events by time, without the champion's where enough is left.

    A champion has seen everything up to its last training run, and asking it about that would
    flatter it. So the cut moves to just after that. Where so much is newer that both halves are
    enough, it moves between these: then the challenger's validation is new to the champion, too,
    and the champion's network can be trained further. Where too little is newer, the cut stays, and
    the two can't be compared.

    Args:
        dataset: The history.
        signals: Mask of the events that models are fitted on.
        champion_until: Time of the last event that the champion was fitted on (ms); None without a
            champion.
        settings: Share and size of the test.
        validation_queries: Queries that the challenger's fit asks in validation.
    """
    times = dataset.interactions["timestamp"].to_numpy()
    of_signals = times[signals]
    cut = int(of_signals[int(len(of_signals) * (1 - settings.test_share))])
    unseen = champion_until is None or champion_until < cut
    if champion_until is not None:
        newer = of_signals[of_signals > champion_until]
        half = len(newer) // 2
        if half >= max(settings.max_test_queries, validation_queries) and newer[half] > newer[0]:
            cut, unseen = max(cut, int(newer[half])), True
        elif not unseen and len(newer) >= settings.gate.min_queries:
            cut, unseen = champion_until + 1, True
    fit = signals & (times < cut)
    if not fit.any():
        raise TooLittleDataError(
            "too little data to train on: all events happened at the same moment"
        )
    return EvaluationSplit(
        fit,
        sample(np.flatnonzero(signals & (times >= cut)), settings.max_test_queries, settings.seed),
        cut,
        unseen,
    )
