"""A part that raises costs its step: a later one answers, and the answer says so."""

from dataclasses import replace
from typing import Any

import pytest

from slipstream.models.base import History, SparseScores
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import SlateRequest, Step
from tests.unit.serving.fakes import (
    FakeOnline,
    Setting,
    history,
    item_record,
    model,
    ranking,
    small_bundle,
    visitor,
)

TRENDING = [("item-30", 9.0), ("item-31", 8.0)]


class Raising:
    """A retriever of a bundle, which raises whenever it is asked."""

    def __init__(self, own: Any) -> None:
        self.kind, self.logarithmic = own.kind, own.logarithmic

    def score(self, _: History) -> SparseScores:
        raise ValueError("broken")

    score_at = score


def broken(bundle: Bundle, *names: str) -> Bundle:
    retrievers: dict[str, Any] = dict(bundle.retrievers)
    return replace(
        bundle, retrievers=retrievers | {name: Raising(retrievers[name]) for name in names}
    )


def a_setting(bundle: Bundle) -> Setting:
    online = FakeOnline({"ada": visitor("item-03", "item-04")}, list(TRENDING))
    return Setting(online, model(bundle, "7"))


def degraded(setting: Setting, part: str) -> float:
    name, labels = "slipstream_recommendations_degraded_total", {"missing": part}
    return setting.registry.get_sample_value(name, labels) or 0.0


async def ask(setting: Setting, way: str) -> MadeSlate:
    if way == "rank":
        return await setting.line.answer(ranking("ada", ["item-33", "item-05", "item-30"]))
    return await setting.line.answer(
        {
            "recommend": SlateRequest(5, "ada"),
            "session": SlateRequest(5, history=history("item-03", "item-04")),
            "similar": SlateRequest(
                5, history=(), similar_to=("item-04",), steps=(Step.SIMILAR, Step.TRENDING)
            ),
        }[way]
    )


WAYS = ["recommend", "session", "similar", "rank"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("whole", [False, True])
async def test_model_with_a_retriever_that_raises_leaves_the_answer_to_later_steps(
    bundle: Bundle, whole: bool, way: str
) -> None:
    parts = bundle.retrievers if whole else ["rules"]
    await model_fails(a_setting(broken(bundle, *parts)), way)


@pytest.mark.parametrize("way", ["recommend", "session", "rank"])
async def test_model_with_a_ranker_that_raises_leaves_the_answer_to_later_steps(
    bundle: Bundle, way: str
) -> None:
    ranked: Any = type("Ranking", (), {"correct": Raising.score})()
    await model_fails(a_setting(replace(bundle, ranking=ranked)), way)


async def model_fails(setting: Setting, way: str) -> None:
    answer = await ask(setting, way)
    assert (answer.answered_by, answer.model_version) == (Step.TRENDING, None)
    assert answer.items[0].item_id == "item-30"
    assert "the model failed" in answer.reason
    assert degraded(setting, "model") >= 1  # the similar step asks it, too


async def test_catalogue_that_raises_leaves_the_models_neighbours(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_alikes(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(Catalog, "look_alikes", look_alikes)
    answer = await ask(a_setting(bundle), "similar")
    assert (answer.answered_by, len(answer.items)) == (Step.SIMILAR, 5)
    assert "the catalogue failed" in answer.reason


async def test_model_that_fails_leaves_items_alike_by_the_catalogue(bundle: Bundle) -> None:
    setting = a_setting(broken(bundle, *bundle.retrievers))
    for item_id in ("item-04", "boot"):
        setting.catalog.apply(item_record(item_id, attributes={"category": "boots"}))
    answer = await ask(setting, "similar")
    assert (answer.answered_by, answer.model_version) == (Step.SIMILAR, None)
    assert answer.items[0].item_id == "boot"
    assert "the model failed" in answer.reason


async def test_slate_that_cannot_be_recorded_does_not_fail_the_request(bundle: Bundle) -> None:
    setting = a_setting(bundle)

    def refuse(_: object) -> None:
        raise ValueError("broken")

    setting.line._record = refuse
    assert (await ask(setting, "recommend")).answered_by == Step.MODEL
    assert degraded(setting, "slates") == 1


@pytest.mark.parametrize("way", ["recommend", "rank"])
async def test_features_that_raise_leave_the_answer_and_an_empty_record(
    bundle: Bundle, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def visitor_features(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("services.serving.request.line.visitor_features", visitor_features)
    setting = a_setting(bundle)
    assert (await ask(setting, way)).answered_by == Step.MODEL
    assert setting.slates[0].features == {}
    assert degraded(setting, "features") == 1


@pytest.mark.parametrize("way", ["recommend", "session", "rank"])
async def test_weights_that_raise_cost_the_model_and_not_the_answer(
    bundle: Bundle, way: str
) -> None:
    broken_weights: Any = type("Weights", (), {})()
    setting = a_setting(replace(bundle, event_weights=broken_weights))
    answer = await ask(setting, way)
    assert answer.items
    assert answer.answered_by != Step.MODEL
    assert "the model failed" in answer.reason


def test_evaluation_hears_of_a_retriever_that_raises() -> None:
    bundle = small_bundle()
    with pytest.raises(ValueError, match="broken"):
        stages.recommend(broken(bundle, "rules"), history("item-03"))
