"""Slates of variants that name a model: by it, or by the champion where it can't answer."""

from typing import Any

import pytest

from services.serving.request import variant_slates
from services.serving.request.store_reads import CircuitBreaker
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.fakes import model
from tests.unit.serving.request.test_line_failing_parts import broken
from tests.unit.serving.request.test_variant_slates_experiments import Shop, ids


@pytest.fixture
def shop(bundle: Bundle) -> Shop:
    made = Shop(bundle)
    # Both variants have the model, so that every visitor gets it.
    made.design["variants"] = [
        {"name": "new", "model": "canary"},
        {"name": "newer", "model": "canary"},
    ]
    return made


def substituted(shop: Shop, why: str) -> float:
    name, labels = "slipstream_substituted_slates_total", {"why": why}
    return shop.setting.registry.get_sample_value(name, labels) or 0.0


async def test_a_variant_answers_by_its_model(shop: Shop, bundle: Bundle) -> None:
    shop.models["canary"] = model(bundle, "8")
    answer = await shop.ask()
    assert (answer.model_version, answer.reason, answer.substituted) == ("8", "", "")
    assert shop.setting.slates[-1].model_version == "8"
    assert (await shop.ask(placement="cart")).model_version == "7"


async def test_the_champion_answers_for_a_model_that_is_not_at_hand(shop: Shop) -> None:
    answer = await shop.ask()
    assert answer.model_version == "7" and answer.variant in ("new", "newer")
    assert answer.reason == (
        f"the model canary of variant {answer.variant} is not at hand: the champion answered"
    )
    slate = shop.setting.slates[-1]
    assert (slate.substituted, slate.model_version, len(slate.items)) == ("absent", "7", 10)
    assert substituted(shop, "absent") == 1


@pytest.mark.parametrize("way", ["whole", "part", "similar"])
async def test_the_champion_answers_for_a_model_that_fails(
    shop: Shop, bundle: Bundle, way: str
) -> None:
    parts = list(bundle.retrievers)[:1] if way == "part" else list(bundle.retrievers)
    shop.models["canary"] = model(broken(bundle, *parts), "8")
    changes: dict[str, Any] = {"similar_to": ("item-03",)} if way == "similar" else {}
    expected = ids(await shop.ask(placement="cart", **changes))
    answer = await shop.ask(**changes)
    assert (answer.model_version, answer.substituted) == ("7", "failed")
    assert ids(answer) == expected and "variant" in answer.reason


async def test_a_model_rests_after_failures_and_is_tried_again(
    shop: Shop, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def breaker(changed: Any, **limits: Any) -> CircuitBreaker:
        return CircuitBreaker(changed, lambda: now[0], **limits)

    monkeypatch.setattr(variant_slates, "CircuitBreaker", breaker)
    bad = shop.models["canary"] = model(broken(bundle, *bundle.retrievers), "8")

    async def ask() -> str:
        now[0] += 0.1
        return (await shop.ask()).substituted

    asked = [await ask() for _ in range(variant_slates.FAILURES + 2)]
    assert asked == ["failed"] * variant_slates.FAILURES + ["resting"] * 2
    now[0] += variant_slates.REST_S
    assert [await ask() for _ in range(2)] == ["failed", "resting"]
    now[0] += variant_slates.REST_S
    object.__setattr__(bad, "bundle", bundle)
    assert [await ask() for _ in range(2)] == ["", ""]


async def test_without_any_champion_the_fallback_answers(shop: Shop) -> None:
    shop.setting.model = None
    answer = await shop.ask()
    assert (answer.model_version, answer.substituted, len(answer.items)) == (None, "absent", 10)
