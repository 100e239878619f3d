from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from slipstream.models.base import EventWeights
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.fit import FitOptions, fit
from slipstream.recommender.holdout import whole_visitors
from slipstream.recommender.profiles import PROFILES
from slipstream.recommender.refit import refit
from slipstream.recommender.stages import Event, recommend
from tests.unit.models.logs import log_of
from tests.unit.recommender.chain import ITEMS, chain_interactions, item_name


def test_fit_gives_the_same_bundle_for_the_same_input() -> None:
    first, second = (
        fit(chain_interactions(visitors=120), options=FitOptions(repeats=False)) for _ in range(2)
    )
    assert first.manifest.parameters == second.manifest.parameters
    for name, retriever in first.retrievers.items():
        for array_name, array in retriever.arrays().items():
            np.testing.assert_array_equal(array, second.retrievers[name].arrays()[array_name])


def test_fit_uses_the_latest_events_too() -> None:
    extra = pa.table(
        {
            "user_id": pa.array(
                [f"late-{visitor}" for visitor in range(30) for _ in range(2)], pa.string()
            ),
            "item_id": pa.array(["brand-new-a", "brand-new-b"] * 30, pa.string()),
            "event_type": pa.array(["view"] * 60, pa.string()),
            "timestamp": pa.array([1_800_000_000_000 + row for row in range(60)], pa.int64()),
        }
    )
    bundle = fit(pa.concat_tables([chain_interactions(), extra]))
    assert recommend(bundle, [Event("brand-new-a")], 1)[0].item_id == "brand-new-b"


def test_fit_knows_the_items_that_somebody_has_met(bundle: Bundle) -> None:
    assert bundle.item_ids == [item_name(place) for place in range(ITEMS)]
    assert set(bundle.attributes or ()) == set(bundle.item_ids)


def test_fit_records_what_it_did() -> None:
    bundle = fit(chain_interactions(), options=FitOptions(version="seven", seed=3))
    manifest = bundle.manifest
    assert (manifest.version, manifest.profile, manifest.seed) == ("seven", "fast", 3)
    assert (manifest.data.visitors, manifest.data.items, manifest.data.events) == (300, 40, 2_400)
    assert set(manifest.parameters["blend"]) == set(bundle.retrievers)  # type: ignore[arg-type]
    assert manifest.metrics.validation is not None
    assert manifest.metrics.validation.figures["hit_rate@10"] > 0.5


def test_fit_records_what_each_part_adds_and_how_the_network_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipstream.recommender.fit.FEWEST_EVENTS", 100)
    monkeypatch.setitem(PROFILES, "fast", replace(PROFILES["fast"], epochs=2, dim=8))  # type: ignore[arg-type]
    metrics = fit(chain_interactions(visitors=100)).manifest.metrics
    curve, validation = metrics.curve, metrics.validation
    assert curve is not None and validation is not None
    assert len(curve.loss) == len(curve.quality) == 2
    assert 1 <= curve.kept <= 2 and all(loss is not None and loss > 0 for loss in curve.loss)
    ablation = validation.ablation
    assert ablation is not None
    assert ablation.alone["rules"] > ablation.alone["popularity"]
    assert "transformer" in ablation.alone and ablation.without["popularity"] > 0
    # So few queries fit no ranker.
    assert validation.importance is None
    assert validation.figures["ndcg@10"] == pytest.approx(ablation.blend)


def test_fit_finds_out_whether_visitors_come_back() -> None:
    once = chain_interactions(visitors=60, length=4)
    twice = pa.concat_tables(
        [once, once.set_column(3, "timestamp", pa.array(once["timestamp"].to_numpy() + 300_000))]
    )
    assert "revisits" not in fit(once).retrievers or not fit(once).repeats
    bundle = fit(twice)
    assert bundle.repeats
    assert "revisits" in bundle.retrievers


@pytest.mark.parametrize("events", [1, 2, 7])
def test_fit_works_on_next_to_nothing(events: int) -> None:
    bundle = fit(chain_interactions(visitors=1, length=events))
    assert len(recommend(bundle, [], 3)) >= 1


def test_fit_refuses_no_events() -> None:
    with pytest.raises(ValueError, match="no interactions"):
        fit(chain_interactions().slice(0, 0))


def test_fit_refuses_events_without_weight_only() -> None:
    table = chain_interactions(visitors=2)
    searches = table.set_column(2, "event_type", pa.array(["search"] * table.num_rows, pa.string()))
    with pytest.raises(ValueError, match="no interactions"):
        fit(searches)


def test_fit_refuses_an_unknown_profile() -> None:
    with pytest.raises(ValueError, match="unknown profile 'slow'"):
        fit(chain_interactions(visitors=2), options=FitOptions(profile="slow"))


def test_weights_of_events_count() -> None:
    rows = [("a", "bought")] * 1 + [("b", "viewed")] * 2
    table = pa.table(
        {
            "user_id": pa.array(
                [f"{user}{row}" for row, (user, _) in enumerate(rows)], pa.string()
            ),
            "item_id": pa.array([item for _, item in rows], pa.string()),
            "event_type": pa.array(["purchase", "view", "view"], pa.string()),
            "timestamp": pa.array([1, 1, 1], pa.int64()),
        }
    )
    assert recommend(fit(table), [], 1)[0].item_id == "bought"
    assert item_name(0) not in fit(table).index


def test_refit_keeps_parameters_and_blend_and_follows_the_new_log() -> None:
    interactions = chain_interactions()
    bundle = fit(interactions, options=FitOptions(version="v", seed=3))
    log = encoding.encode(interactions, bundle.item_ids, EventWeights())
    same = refit(bundle, log, bundle.item_ids, {})
    assert same.manifest.parameters == bundle.manifest.parameters and same.manifest.version == "v"
    np.testing.assert_array_equal(same.blend.weights, bundle.blend.weights)
    for name, retriever in bundle.retrievers.items():
        for array_name, array in retriever.arrays().items():
            np.testing.assert_allclose(
                same.retrievers[name].arrays()[array_name], array, rtol=1e-5, atol=1e-6
            )
    half = refit(bundle, log.select(np.arange(len(log) // 2)), bundle.item_ids, {})
    assert half.manifest.data.events == len(log) // 2
    assert not np.array_equal(
        half.retrievers["popularity"].arrays()["share"],
        bundle.retrievers["popularity"].arrays()["share"],
    )


def test_refit_takes_the_items_that_came_since_and_refuses_those_of_another_log() -> None:
    bundle = fit(chain_interactions(), options=FitOptions(version="v"))
    grown = [*bundle.item_ids, "new"]
    log = encoding.encode(chain_interactions(), grown, EventWeights())
    again = refit(bundle, log, grown, {"new": {"colour": "red"}}, version="w")
    assert (again.version, again.item_ids, again.attributes) == (
        "w",
        grown,
        {"new": {"colour": "red"}},
    )
    assert recommend(again, [Event(item_name(3))], 1)[0].item_id == item_name(4)
    with pytest.raises(ValueError, match="the log is of"):
        refit(bundle, log, bundle.item_ids, {})


def test_refit_of_a_grown_catalogue_without_attributes_any_more(bundle: Bundle) -> None:
    assert "content" in bundle.retrievers
    grown = [*bundle.item_ids, "new"]
    log = encoding.encode(chain_interactions(), grown, EventWeights())
    again = refit(bundle, log, grown, {})
    assert recommend(again, [Event(item_name(3))], 1)[0].item_id == item_name(4)
    assert recommend(again, [Event("new")], ITEMS)


def test_parameters_are_chosen_on_whole_visitors_of_a_log_that_is_too_long() -> None:
    log = log_of([[place % 7 for place in range(1 + user % 5)] for user in range(200)], 7)
    some = whole_visitors(log, 150, seed=3)
    assert 140 < len(some) <= 150
    for user in np.unique(some.user):
        np.testing.assert_array_equal(some.item[some.user == user], log.item[log.user == user])
    assert whole_visitors(log, len(log), seed=3) is log
