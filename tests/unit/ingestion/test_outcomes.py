"""The question to the store about a request, before any of it is published."""

import pytest

from services.ingestion.fields import Code, RejectionError
from services.ingestion.outcomes import Acceptance, Admission, Origin, Rejection
from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import NewInteraction
from slipstream.stores.admission_store import AdmissionStore, Rate, Rates

ORIGIN = Origin("shop", "r", 1_700_000_000_000)


@pytest.mark.parametrize(
    "rates",
    [Rates(key=Rate(1, 10)), Rates(visitor=Rate(1, 10))],
    ids=["rate of the key", "rate of each visitor"],
)
def test_a_rate_counts_records_and_a_rejection_as_one(rates: Rates) -> None:
    at = ORIGIN.received_at
    event = NewInteraction(
        event_id="e", event_type="view", user_id="ada", item_id="i", timestamp=at, received_at=at
    )
    bad = Rejection("n", RejectionError(Code.MISSING_USER, "userId is required"), {})
    admission = Admission(AdmissionStore(RedisSettings(), "test", window_ms=0), rates, rates)
    question = admission.question([Acceptance("m", [event] * 3), bad], ORIGIN)
    assert question is not None
    assert question.asked.records == [3, 1]
