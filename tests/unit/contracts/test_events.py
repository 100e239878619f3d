import pytest
from pydantic import ValidationError

from slipstream.contracts.events import Interaction

VALID = {"event_id": "e", "event_type": "view", "user_id": "u", "timestamp": 1, "received_at": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": ""},
        {"user_id": "é" * 129},
        {"event_type": "Product Viewed"},
        {"event_type": "x" * 65},
        {"timestamp": -1},
        {"timestamp": 1_600_000_000_000_000},
        {"value": float("nan")},
        {"position": -1},
        {"item_id": ""},
    ],
)
def test_value_outside_the_contract_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Interaction.model_validate(VALID | change)


def test_id_of_exactly_256_bytes_is_allowed() -> None:
    assert Interaction.model_validate(VALID | {"user_id": "é" * 128}).user_id == "é" * 128


def test_field_added_by_a_newer_producer_is_ignored() -> None:
    assert Interaction.model_validate(VALID | {"colour": "red"}) == Interaction.model_validate(
        VALID
    )
