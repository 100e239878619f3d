"""The search: what it begins with, what it keeps, when it ends a trial and itself, and what later
fits remember of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from slipstream.contracts.progress import ProgressStep
from slipstream.models.base import EventWeights
from slipstream.models.transformer import TransformerParameters
from slipstream.models.transformer_fit import TransformerFit
from slipstream.models.transformer_training import Epoch
from slipstream.recommender import encoding
from slipstream.recommender.fit import FitOptions, fit_log
from slipstream.recommender.profiles import PROFILES
from slipstream.recommender.search import (
    memory,
    remembered,
    search,
    search_space,
)
from tests.unit.recommender.chain import chain_interactions

DEFAULTS = TransformerParameters(dim=64, epochs=4)
ONE_EPOCH_S = 1.0


class Trainings:
    """Stands for training: an epoch takes a second, and its quality follows from the parameters
    alone.
    """

    def __init__(
        self, quality: Callable[[TransformerParameters], float], loss: float = 1.0
    ) -> None:
        self._quality, self._loss = quality, loss
        self.now, self.tried = 0.0, list[TransformerParameters]()

    def clock(self) -> float:
        return self.now

    def __call__(
        self, parameters: TransformerParameters, learned: Callable[[Epoch], None]
    ) -> TransformerFit:
        self.tried.append(parameters)
        curve = []
        for epoch in range(1, parameters.epochs + 1):
            self.now += ONE_EPOCH_S
            curve.append(
                Epoch(epoch, parameters.epochs, self._loss, self._quality(parameters) * epoch)
            )
            learned(curve[-1])
        return TransformerFit(parameters, len(curve), curve)  # type: ignore[arg-type]

    def search(self, seconds: float, start: TransformerParameters = DEFAULTS, **more: Any) -> Any:
        return search(self, DEFAULTS, start, 10_000, seconds, clock=self.clock, **more)


def wide_is_good(parameters: TransformerParameters) -> float:
    return parameters.dim / 128 - parameters.dropout / 10


def test_the_best_of_all_trials_is_kept() -> None:
    trainings = Trainings(wide_is_good)
    result = trainings.search(60)
    assert trainings.tried[0] == DEFAULTS
    assert result.parameters.dim == 128 and wide_is_good(result.parameters) > wide_is_good(DEFAULTS)
    assert result.network.model == result.parameters
    best = max(trial.quality for trial in result.trials if trial.state == "complete")
    assert best == pytest.approx(4 * wide_is_good(result.parameters))
    assert [trial.parameters for trial in result.trials] == trainings.tried


def test_the_same_seed_tries_the_same() -> None:
    first, second, other = Trainings(wide_is_good), Trainings(wide_is_good), Trainings(wide_is_good)
    first.search(30, seed=3), second.search(30, seed=3), other.search(30, seed=4)
    assert first.tried == second.tried != other.tried


def test_what_is_worse_than_half_of_the_others_is_ended_early() -> None:
    result = Trainings(wide_is_good).search(100)
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned and all(trial.epochs < DEFAULTS.epochs for trial in pruned)
    assert {trial.state for trial in result.trials[:3]} == {"complete"}


def test_what_was_found_before_comes_first_and_then_the_defaults() -> None:
    trainings, start = Trainings(wide_is_good), replace(DEFAULTS, dim=32, dropout=0.7)
    result = trainings.search(9, start)
    assert trainings.tried[:2] == [start, DEFAULTS]
    assert result.parameters == DEFAULTS


@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_the_first_trial_runs_to_its_end_and_no_other_begins_after_the_time(seconds: float) -> None:
    result = Trainings(wide_is_good).search(seconds)
    assert [(trial.state, trial.epochs) for trial in result.trials] == [("complete", 4)]
    assert result.parameters == DEFAULTS


def test_a_trial_under_way_when_the_time_is_over_is_not_chosen() -> None:
    trainings = Trainings(lambda parameters: 0.0 if parameters == DEFAULTS else 1.0)
    result = trainings.search(6)
    assert [trial.state for trial in result.trials] == ["complete", "out of time"]
    assert result.parameters == DEFAULTS and trainings.now == 6


def test_what_diverges_is_never_chosen() -> None:
    result = Trainings(wide_is_good, loss=float("nan")).search(3)
    assert {trial.state for trial in result.trials} == {"diverged"} and result.trials[
        0
    ].quality is None
    assert result.parameters == DEFAULTS


def test_how_far_it_is_can_be_told() -> None:
    told: list[ProgressStep] = []
    Trainings(wide_is_good).search(8, progress=told.append)
    assert [(step.stage[-7:], step.share, step.epoch) for step in told] == [
        (f"trial {number // 4 + 1}", (number + 1) / 8, number % 4 + 1) for number in range(8)
    ]


class KilledError(Exception): ...


def killed_search(trainings: Trainings, ended: int, **more: Any) -> None:
    """A search that is killed in its next trial after those that have ended."""

    def tell(step: ProgressStep) -> None:
        if step.stage.endswith(f"trial {ended + 1}"):
            raise KilledError

    with pytest.raises(KilledError):
        trainings.search(60, progress=tell, **more)


@pytest.mark.parametrize("left_half", [False, True])
@pytest.mark.parametrize("ended", [1, 2, 7])
def test_search_that_is_killed_goes_on_after_its_last_trial(
    tmp_path: Path, ended: int, left_half: bool
) -> None:
    networks: dict[TransformerParameters, TransformerFit] = {}
    more: dict[str, Any] = {
        "journal": tmp_path / "made later" / "search.log",
        "kept": networks.get,
        "keep": networks.__setitem__,
    }
    first = Trainings(wide_is_good)
    killed_search(first, ended, **more)
    if left_half:
        with more["journal"].open("ab") as file:
            file.write(b'{"op_code":6,"wor')
    second = Trainings(wide_is_good)
    result = second.search(60, **more)
    assert [trial.number for trial in result.trials] == list(range(len(result.trials)))
    tried = [*first.tried[:ended], *second.tried]
    assert [trial.parameters for trial in result.trials] == tried
    assert tried[:1] == [DEFAULTS] and DEFAULTS not in second.tried
    assert len({repr(parameters) for parameters in tried}) == len(tried)
    assert sum(trial.seconds for trial in result.trials) == pytest.approx(60)
    best = max(t.quality for t in result.trials if t.state == "complete")
    assert best == pytest.approx(4 * wide_is_good(result.parameters))
    assert result.network.model == result.parameters
    assert any(trial.state == "pruned" for trial in result.trials)  # what it saw before counts
    assert [file.name for file in more["journal"].parent.iterdir()] == ["search.log"]


def test_search_that_is_killed_in_its_first_trial_begins_with_it_again(tmp_path: Path) -> None:
    start = replace(DEFAULTS, dim=32)
    killed_search(Trainings(wide_is_good), 0, start=start, journal=tmp_path / "search.log")
    again = Trainings(wide_is_good)
    result = again.search(9, start, journal=tmp_path / "search.log")
    assert again.tried[:2] == [start, DEFAULTS]
    assert result.trials[0].state == "complete"


@pytest.mark.parametrize("keeps", [True, False])
def test_search_whose_time_is_over_when_it_goes_on_tries_nothing_more(
    tmp_path: Path, keeps: bool
) -> None:
    networks: dict[TransformerParameters, TransformerFit] = {}
    journal = tmp_path / "search.log"
    before = Trainings(wide_is_good).search(30, journal=journal, keep=networks.__setitem__)
    again = Trainings(wide_is_good)
    result = again.search(30, journal=journal, kept=networks.get if keeps else lambda _: None)
    assert result.trials == before.trials
    # A network that was lost is trained again.
    assert again.tried == ([] if keeps else [before.parameters])
    assert result.network.model == result.parameters == before.parameters


def test_disk_that_takes_nothing_ends_no_search(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tried = Trainings(wide_is_good).search(9, journal=tmp_path / "file" / "search.log").trials
    assert tried == Trainings(wide_is_good).search(9).trials


def test_heads_always_divide_the_vectors_and_small_catalogues_are_compared_whole() -> None:
    odd = replace(DEFAULTS, dim=12, heads=3)
    space: Any = search_space(odd, odd, 100)
    assert space["dim"].choices == (6, 12, 24) and space["heads"].choices == (1, 2, 3)
    assert "negatives" not in space and "negatives" in search_space(odd, odd, odd.negatives + 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A network of two epochs, which stays in the bundle however little it has learned."""
    monkeypatch.setattr("slipstream.recommender.fit.FEWEST_EVENTS", 100)
    monkeypatch.setattr("slipstream.recommender.ranking._KEPT", {"popularity", "transformer"})
    monkeypatch.setitem(PROFILES, "fast", replace(PROFILES["fast"], epochs=2, dim=8))  # type: ignore[arg-type]
    yield


@pytest.mark.usefixtures("small")
def test_later_fits_begin_with_what_was_found() -> None:
    interactions = chain_interactions(visitors=100)
    item_ids = encoding.met_items(interactions, EventWeights())
    log = encoding.encode(interactions, item_ids, EventWeights())
    steps: list[str] = []
    bundle = fit_log(
        log,
        item_ids,
        {},
        FitOptions(version="one", search_s=0.001),
        lambda step: steps.append(step.stage),
    )
    assert "searching the network's parameters, trial 1" in steps
    trials = bundle.manifest.metrics.search
    assert trials is not None
    assert [(trial.number, trial.state) for trial in trials] == [(0, "complete")]
    network: Any = bundle.manifest.parameters["network"]
    assert trials[0].parameters == network and network["dim"] == 8
    assert bundle.manifest.parameters["searched"] == {
        "fast": {"version": "one", "network": network}
    }

    # As if another width had been result.
    narrow = replace(TransformerParameters(**network), dim=4, epochs=99)
    bundle.manifest.parameters["searched"] = memory(bundle, "fast", "one", narrow)
    later = fit_log(log, item_ids, {}, FitOptions(version="two", start_from=bundle, keeps=False))
    found: Any = later.manifest.parameters["network"]  # each with the epoch that was best for it
    assert {**found, "epochs": 0} == {**network, "dim": 4, "epochs": 0}
    assert later.manifest.parameters["searched"] == {
        "fast": {"version": "one", "network": asdict(narrow)}
    }
    assert later.manifest.metrics.search is None


@pytest.mark.usefixtures("small")
def test_a_fit_that_starts_again_has_its_search_and_other_data_another(tmp_path: Path) -> None:
    def fitted(visitors: int) -> tuple[Any, set[str], set[str]]:
        """The trials, the steps, and the files that the search has left by now."""
        interactions = chain_interactions(visitors=visitors)
        item_ids = encoding.met_items(interactions, EventWeights())
        log = encoding.encode(interactions, item_ids, EventWeights())
        steps: set[str] = set()
        options = FitOptions(search_s=0.001, checkpoints=tmp_path)
        bundle = fit_log(log, item_ids, {}, options, lambda step: steps.add(step.stage))
        files = {file.name for file in tmp_path.iterdir() if file.name.startswith("search-")}
        return bundle.manifest.metrics.search, steps, files

    step = "searching the network's parameters, trial 1"
    trials, steps, files = fitted(100)
    assert step in steps and {name.rpartition(".")[2] for name in files} == {"log", "pt"}
    again, steps, kept = fitted(100)
    assert (again, kept) == (trials, files) and step not in steps
    _, steps, others = fitted(110)
    assert step in steps and len(others - files) == 2


def test_each_profile_has_its_own_memory() -> None:
    interactions = chain_interactions(visitors=10)
    item_ids = encoding.met_items(interactions, EventWeights())
    bundle = fit_log(encoding.encode(interactions, item_ids, EventWeights()), item_ids, {})
    assert bundle.manifest.parameters["searched"] == {}
    assert remembered(None, "fast", DEFAULTS) == remembered(bundle, "fast", DEFAULTS) == DEFAULTS
    bundle.manifest.parameters["searched"] = memory(
        bundle, "fast", "one", replace(DEFAULTS, dim=32)
    )
    assert remembered(bundle, "fast", DEFAULTS) == replace(DEFAULTS, dim=32)
    assert remembered(bundle, "best", DEFAULTS) == DEFAULTS
    assert set(memory(bundle, "best", "two", DEFAULTS)) == {"fast", "best"}
