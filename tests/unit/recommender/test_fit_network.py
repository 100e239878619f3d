"""A fit with a network: it is heard, survives saving, and starts from an earlier bundle only where
that is fair.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipstream.models.base import EventWeights
from slipstream.recommender import encoding
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


def test_refit_goes_on_with_the_network(bundle: Bundle) -> None:
    log = encoding.encode(SHOP, bundle.item_ids, EventWeights())
    again = refit(bundle, log)
    assert set(again.retrievers) == set(bundle.retrievers)
    assert recommend(again, [Event(item_name(3))], 1)[0].item_id == item_name(4)


# Parameters of the retrievers, which are chosen before the network learns, matter to no question.
UNTUNED = replace(PROFILES["fast"], tuning_queries=10)


class AskedError(Exception):
    """Ends a fit at the question of interest, and carries the answer."""


@pytest.mark.parametrize(
    ("until", "goes_on", "gone_on_from"),
    [(0, True, True), (10**15, True, False), (0, False, False)],
)
def test_a_network_that_has_seen_the_questions_or_may_not_be_used_is_not_gone_on_from(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, until: int, goes_on: bool, gone_on_from: bool
) -> None:
    """Else training would stop too late, and the blend would listen to the network too much."""

    def ask(*_: Any, start: Any = None, **__: Any) -> Any:
        raise AskedError(start)

    monkeypatch.setattr(fitting, "learn", ask)
    monkeypatch.setattr(fitting, "PROFILES", {"fast": UNTUNED})
    data = bundle.manifest.data.model_copy(update={"until": until})
    earlier = replace(bundle, manifest=bundle.manifest.model_copy(update={"data": data}))
    log = encoding.encode(SHOP, bundle.item_ids, EventWeights())
    with pytest.raises(AskedError) as asked:
        options = FitOptions(repeats=False, start_from=earlier, goes_on=goes_on)
        fit_log(log, list(bundle.item_ids), bundle.attributes or {}, options)
    assert (asked.value.args[0] is not None) == gone_on_from


@pytest.mark.parametrize(("wanted", "only_newer"), [(200, True), (500, False)])
def test_where_enough_is_newer_than_the_earlier_bundle_only_that_is_validation(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, wanted: int, only_newer: bool
) -> None:
    def ask(training: Any, *_: Any, **__: Any) -> Any:
        raise AskedError(int(training.timestamp.max()))

    log = encoding.encode(SHOP, bundle.item_ids, EventWeights())
    until = int(np.quantile(log.timestamp, 0.95, method="lower"))  # some 360 events are newer
    monkeypatch.setattr(fitting, "learn", ask)
    monkeypatch.setattr(fitting, "PROFILES", {"fast": replace(UNTUNED, ranking_queries=wanted)})
    data = bundle.manifest.data.model_copy(update={"until": until})
    earlier = replace(bundle, manifest=bundle.manifest.model_copy(update={"data": data}))
    with pytest.raises(AskedError) as asked:
        options = FitOptions(repeats=False, start_from=earlier)
        fit_log(log, list(bundle.item_ids), bundle.attributes or {}, options)
    assert (asked.value.args[0] == until) == only_newer
