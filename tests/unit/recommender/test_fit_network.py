"""A fit with a network: it is heard, survives saving, and starts from an earlier bundle only where
that is fair.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipstream.models.base import EventWeights
from slipstream.models.transformer import TransformerParameters
from slipstream.recommender import encoding, network
from slipstream.recommender import fit as fitting
from slipstream.recommender.bundle import Bundle, load_bundle, save_bundle
from slipstream.recommender.fit import FitOptions, fit, fit_log
from slipstream.recommender.profiles import PROFILES
from slipstream.recommender.refit import refit
from slipstream.recommender.stages import Event, recommend
from tests.unit.recommender.chain import chain_interactions, chain_items, item_name

SHOP = chain_interactions(visitors=900)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return fit(SHOP, chain_items("new-mauve"), FitOptions(repeats=False))


def answers(bundle: Bundle) -> list[list[tuple[str, float]]]:
    return [
        [
            (one.item_id, one.score)
            for one in recommend(bundle, [Event(item_name(place)), Event(item_name(place + 1))], 5)
        ]
        for place in range(0, 40, 7)
    ]


def test_the_network_is_heard_and_the_chain_is_found(bundle: Bundle) -> None:
    assert bundle.manifest.parameters["blend"]["transformer"] > 0.01  # type: ignore[index, call-overload, operator]
    right = [
        recommend(bundle, [Event(item_name(place))], 1)[0].item_id == item_name(place + 1)
        for place in range(40)
    ]
    assert sum(right) > 35


def test_a_saved_bundle_answers_as_before(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    assert (loaded.ranking is None) == (bundle.ranking is None)
    if bundle.ranking is not None:
        assert len(bundle.ranking.features) == len(bundle.ranking.ranker.mean)
    for ours, theirs in zip(answers(bundle), answers(loaded), strict=True):
        assert [item for item, _ in ours] == [item for item, _ in theirs]
        np.testing.assert_allclose(
            [score for _, score in ours], [score for _, score in theirs], rtol=1e-5
        )


def test_refit_trains_the_network_for_the_epochs_that_validation_chose(bundle: Bundle) -> None:
    log = encoding.encode(SHOP, bundle.item_ids, EventWeights())
    curve, network = bundle.manifest.metrics.curve, bundle.manifest.parameters["network"]
    assert curve is not None and isinstance(network, dict) and network["epochs"] == curve.kept
    again = refit(bundle, log, bundle.item_ids, bundle.attributes or {})
    assert set(again.retrievers) == set(bundle.retrievers)
    assert recommend(again, [Event(item_name(3))], 1)[0].item_id == item_name(4)


# Parameters of the retrievers, which are chosen before the network learns, matter to no question.
UNTUNED = replace(PROFILES["fast"], tuning_queries=10)


class AskedError(Exception):
    """Ends a fit at the question of interest, and carries the answer."""


@pytest.mark.parametrize(
    ("newer", "changed", "kept"),
    [
        pytest.param(0.2, {}, True, id="a fifth is newer"),
        pytest.param(0.3, {}, False, id="more is newer"),
        pytest.param(0.1, {"keeps": False}, False, id="it may not"),
        pytest.param(0.1, {"seed": 7}, False, id="another seed"),
        pytest.param(0.1, {"search_s": 60.0}, False, id="a search"),
    ],
)
def test_choices_of_an_earlier_bundle_are_kept_while_little_is_newer(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    newer: float,
    changed: dict[str, Any],
    kept: bool,
) -> None:
    def ask(*_: Any, **__: Any) -> Any:
        raise AskedError(False)

    def again(earlier: Bundle, *_: Any) -> Any:
        raise AskedError(earlier is not None)

    log = encoding.encode(SHOP, bundle.item_ids, EventWeights())
    until = int(np.quantile(log.timestamp, 1 - newer, method="lower"))
    monkeypatch.setattr(fitting, "learn", ask)
    monkeypatch.setattr(fitting, "refit", again)
    monkeypatch.setattr(fitting, "PROFILES", {"fast": UNTUNED})
    parameters = {**bundle.manifest.parameters, "chosen_until": until}
    manifest = bundle.manifest.model_copy(update={"parameters": parameters})
    options = FitOptions(repeats=False, start_from=replace(bundle, manifest=manifest), **changed)
    with pytest.raises(AskedError) as asked:
        fit_log(log, list(bundle.item_ids), bundle.attributes or {}, options)
    assert asked.value.args[0] == kept


def test_networks_of_a_bundle_that_is_refitted_before_it_serves_are_not_trained_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def again(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("slipstream.recommender.refit.learn_again", again)
    short = replace(PROFILES["fast"], epochs=1)
    monkeypatch.setattr(fitting, "PROFILES", {"fast": replace(short, tuning_queries=10)})
    monkeypatch.setattr("slipstream.recommender.ranking._KEPT", {"popularity", "transformer"})
    item_ids = encoding.met_items(SHOP, EventWeights())
    log = encoding.encode(SHOP, item_ids, EventWeights())
    made = fit_log(
        log, item_ids, {}, FitOptions(repeats=False, served_on=network.TrainingData(log, None))
    )
    assert "transformer" in made.retrievers and made.manifest.data.events == len(log)


def test_networks_for_service_are_trained_meanwhile_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(network, "_WORTH_A_PROCESS", 1)
    item_ids = encoding.met_items(SHOP, EventWeights())
    served_on = encoding.encode(SHOP, item_ids, EventWeights())
    log = served_on.select(np.flatnonzero(served_on.user % 5 > 0))
    validation = encoding.queries(served_on, np.flatnonzero(served_on.user % 5 == 0)[3::4])
    parameters = TransformerParameters(dim=16, batch=400, epochs=3)
    learned = network.learn(
        log,
        validation,
        parameters,
        parameters,
        repeats=False,
        terms=None,
        checkpoints=tmp_path,
        served_on=network.TrainingData(served_on, None),
    )
    states = [torch.load(file, weights_only=True)["epoch"] for file in tmp_path.glob("*.pt")]
    assert sorted(states) == sorted([3, learned.parameters.epochs])
    again = partial(network.learn_again, served_on, learned.parameters, ["transformer"], terms=None)
    (found,), (alone,) = again(checkpoints=tmp_path).values(), again().values()
    for name, array in found.arrays().items():
        np.testing.assert_allclose(array, alone.arrays()[name], rtol=1e-3, atol=1e-5)
