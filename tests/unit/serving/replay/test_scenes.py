from typing import cast

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from services.serving.replay.bodies import WhatIf
from services.serving.replay.scenes import Scene, altered
from slipstream.contracts.placements import Placement, PlacementPolicy


def test_a_change_without_a_rule_that_does_not_exist_is_refused() -> None:
    pin = {"name": "third", "action": "pin", "position": 3}
    policy = PlacementPolicy.model_validate({"rules": [pin]})
    home = Placement(name="home", revision=1, policy=policy, changed_at=0)
    with pytest.raises(RequestValidationError) as refused:
        altered(cast(Scene, None), WhatIf(without_rules=["thrid"]), home, None)
    (fault,) = refused.value.errors()
    assert (fault["loc"], fault["type"]) == (("body", "without_rules"), "unknown_name")
    assert fault["msg"] == "there is no rule thrid; did you mean third?"


def test_a_policy_with_an_unknown_field_is_refused() -> None:
    rule = {"name": "a", "action": "include", "filtre": "number > 1"}
    with pytest.raises(ValidationError, match=r"rules.0.include.filtre: .* did you mean filter\?"):
        WhatIf.model_validate({"policy": {"rules": [rule]}})
    assert WhatIf.model_validate({"policy": {"seen": "hide"}}).policy is not None
