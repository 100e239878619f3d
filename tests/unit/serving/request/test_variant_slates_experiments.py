"""Slates of placements with an experiment: the variant's policy, and what answers tell."""

from typing import Any

import orjson
import pytest

from services.serving.http.responses import slate_body
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.rest import RecommendationResponse
from slipstream.contracts.vocabulary import BATCH
from slipstream.recommender.bundle import Bundle
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import SlateRequest
from tests.unit.serving.fakes import ITEMS, FakeOnline, Setting, item_record, model, visitor

# `home-b` shows the second half of the items only.
POLICIES: dict[str, Any] = {
    "home": {},
    "home-b": {"rules": [{"name": "half", "action": "include", "filter": "number >= 20"}]},
}
OTHER = {"name": "other", "placement": "home-b"}


class Shop:
    """A pipeline whose placement `home` has an experiment."""

    def __init__(self, bundle: Bundle) -> None:
        self.design: dict[str, Any] = {
            "placements": ["home"],
            "variants": [{"name": "as-now"}, OTHER],
        }
        self.policies = POLICIES.copy()
        self.models: dict[str, Model] = {}
        online = FakeOnline(
            {"ada": visitor("item-03", "item-04")}, [(item_id, 1.0) for item_id in ITEMS]
        )
        self.setting = Setting(
            online,
            model(bundle, "7"),
            placement=self.placement,
            experiment=self.experiment,
            variant_model=lambda name: self.models.get(name),
        )
        for number, item_id in enumerate(ITEMS):
            self.setting.catalog.apply(item_record(item_id, attributes={"number": number}))

    def placement(self, name: str) -> Placement | None:
        if name not in self.policies:
            return None
        policy = PlacementPolicy.model_validate(self.policies[name])
        return Placement(name=name, revision=len(name), policy=policy, changed_at=1)

    def experiment(self, placement: str, _now_ms: int) -> Experiment | None:
        if placement != "home":
            return None
        return Experiment.model_validate(
            {"name": "calmer", "revision": 1, "design": self.design, "changed_at": 1}
        )

    async def ask(self, user_id: str = "ada", placement: str = "home", **changes: Any) -> MadeSlate:
        return await self.setting.line.answer(
            SlateRequest(10, user_id, placement=placement, **changes)
        )


@pytest.fixture
def shop(bundle: Bundle) -> Shop:
    return Shop(bundle)


def ids(answer: MadeSlate) -> list[str]:
    return [item.item_id for item in answer.items]


async def visitors_of(shop: Shop) -> dict[str, list[MadeSlate]]:
    """Answers to twenty visitors, by variant."""
    found: dict[str, list[MadeSlate]] = {}
    for number in range(20):
        answer = await shop.ask(f"visitor-{number}")
        found.setdefault(answer.variant, []).append(answer)
    return found


async def test_each_visitor_has_the_policy_of_one_variant(shop: Shop) -> None:
    shop.design["traffic"] = 0.7
    found = await visitors_of(shop)
    assert set(found) == {"holdout", "as-now", "other"}
    assert all(min(ids(answer)) >= "item-20" for answer in found["other"])
    for name in ("holdout", "as-now"):
        assert any(min(ids(answer)) < "item-20" for answer in found[name])
    assert {answer.placement_revision for answer in found["other"]} == {len("home-b")}
    assert {answer.placement_revision for answer in found["as-now"]} == {len("home")}
    again = await visitors_of(shop)
    assert {name: len(each) for name, each in again.items()} == {
        name: len(each) for name, each in found.items()
    }
    slate = shop.setting.slates[-1]
    assert slate.experiment == "calmer" and slate.variant in found and slate.placement == "home"


async def test_slates_that_no_visitor_sees_or_of_nobody_are_in_no_experiment(shop: Shop) -> None:
    for answer in (
        await shop.ask(""),
        await shop.ask(placement="cart"),
        await shop.ask(placement=""),
        await shop.ask(purpose=BATCH),
    ):
        assert (answer.experiment, answer.variant) == ("", "champion")
        assert "variant" not in slate_body(answer)
        assert RecommendationResponse.model_validate_json(_json(answer)).variant == "champion"


async def test_what_the_request_wants_wins_over_the_variant(shop: Shop) -> None:
    shop.design["variants"] = [
        {"name": "a", "exploration": 1.0},
        {"name": "b", "exploration": 1.0},
    ]
    assert (await shop.ask()).propensities
    assert not (await shop.ask(exploration=0.0)).propensities


async def test_a_variant_without_its_placement_keeps_to_the_slates_own(shop: Shop) -> None:
    shop.design["variants"] = [OTHER | {"name": "a"}, OTHER | {"name": "b"}]
    shop.policies = {
        "home": {"rules": [{"name": "x", "action": "include", "filter": "number < 9"}]}
    }
    answer = await shop.ask()
    assert max(ids(answer)) < "item-09" and answer.placement_revision == len("home")


def _json(answer: MadeSlate) -> bytes:
    return orjson.dumps(slate_body(answer))
