"""Designs that are refused before they are kept, and those that are taken."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.monitoring.experiments.bodies import DesignBody
from slipstream.contracts.experiments import ExperimentDesign, Variant

TWO = [{"name": "as-now"}, {"name": "varied", "diversity": 0.5}]
NEW = {"name": "new", "model": "canary"}


def design(**more: Any) -> dict[str, Any]:
    return {"placements": ["home"], "variants": TWO, **more}


def test_a_design_becomes_the_contracts() -> None:
    taken = DesignBody.model_validate(design(traffic=0.5)).design()
    assert taken == ExperimentDesign.model_validate(design(traffic=0.5))
    assert type(taken.variants[0]) is Variant


def test_what_was_shown_can_be_put_again() -> None:
    for kind in ("split", "canary"):
        stopped = design(kind=kind, variants=[TWO[0], NEW], state="stopped", stopped_because="slow")
        kept = DesignBody.model_validate(stopped).design()
        assert (kept.stopped_because, kept.variants[1].model) == ("slow", "canary")
        again = DesignBody.model_validate(kept.model_dump() | {"state": "running"}).design()
        assert again == kept.model_copy(update={"state": "running", "stopped_because": ""})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variants": TWO[:1]}, "at least 2"),
        ({"variants": [{"name": f"v{n}"} for n in range(11)]}, "at most 10"),
        ({"variants": [TWO[0], TWO[0]]}, "two variants have the same name"),
        ({"variants": [TWO[0], {"name": "holdout"}]}, "holdout is no name"),
        ({"variants": [TWO[0], {"name": "b", "weight": 0}]}, "greater than 0"),
        ({"variants": [TWO[0], {"name": "b", "weight": float("nan")}]}, "finite"),
        ({"variants": [TWO[0], {"name": "b", "divers": 1}]}, "Extra inputs"),
        ({"kind": "interleave", "variants": [*TWO, {"name": "c"}]}, "exactly two variants"),
        ({"kind": "interleave", "variants": [TWO[0], {"name": "b", "weight": 2}]}, "same weight"),
        ({"placements": []}, "at least 1"),
        ({"placements": ["home", "home"]}, "named twice"),
        ({"placements": ["a b"]}, "pattern"),
        ({"salt": "a\0b"}, "pattern"),
        ({"traffic": 1.5}, "less than or equal to 1"),
        ({"starts_at": 5, "ends_at": 5}, "ends before it starts"),
        ({"trafic": 1}, "Extra inputs"),
        ({"kind": "shadow", "variants": [*TWO, {"name": "c"}]}, "shadow takes exactly two"),
        ({"kind": "canary"}, "the second a model"),
        ({"kind": "canary", "variants": [NEW, {"name": "b", "model": "9"}]}, "has the champion"),
        ({"variants": [TWO[0], {"name": "b", "model": "champion"}]}, "without a model has the"),
        ({"variants": [TWO[0], {"name": "b", "model": "a/b"}]}, "pattern"),
        ({"variants": [TWO[0], NEW], "guard": {"slower": 2}}, "only a canary has a guard"),
        ({"kind": "canary", "variants": [TWO[0], NEW], "guard": {"slow": 2}}, "Extra inputs"),
    ],
)
def test_a_fault_is_told(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DesignBody.model_validate(design(**changes))


def test_the_pages_examples_are_taken() -> None:
    page = (Path(__file__).parents[4] / "docs" / "experiments.md").read_text("utf-8")
    examples = [part.partition("```")[0] for part in page.split("```json\n")[1:]]
    kinds = [DesignBody.model_validate_json(example).design().kind for example in examples]
    assert kinds == ["split", "split", "shadow", "canary", "interleave"]
