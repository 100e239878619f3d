from typing import Any

import msgspec
import orjson
import pytest
from pydantic import ValidationError

from slipstream.broker.records import decode, encode
from slipstream.contracts.events import Interaction, NewInteraction
from slipstream.contracts.topics import INTERACTIONS

VALID: dict[str, Any] = {
    "event_id": "e",
    "event_type": "view",
    "user_id": "u",
    "timestamp": 1,
    "received_at": 2,
}


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


def test_a_new_interaction_has_the_fields_and_defaults_of_the_record() -> None:
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in Interaction.model_fields.items()
        if not field.is_required()
    }
    assert set(NewInteraction.__struct_fields__) == set(Interaction.model_fields)
    assert msgspec.structs.asdict(NewInteraction(**VALID)) == VALID | defaults


def test_a_new_interaction_is_written_as_the_record_is() -> None:
    values = VALID | {"item_id": "Ä\u2028\x1f", "value": 1e15, "properties": {"a": [1, None, -0.0]}}
    written = encode(NewInteraction(**values))
    assert orjson.loads(written) == orjson.loads(encode(Interaction(**values)))
    assert decode(INTERACTIONS, written) == Interaction(**values)
