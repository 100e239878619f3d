"""Services that answer what a test lets them."""

import pytest

from slipstream.chassis.client import Peer
from slipstream_cli import peers as service_clients
from tests.unit.cli.rest_answers import Answers


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Every command of this test speaks to these."""
    made = Answers()

    def make(name: str, url: str, reconnects: bool = False) -> Peer:
        return Peer(name, url, retries=0, transport=made.transport())

    monkeypatch.setattr(service_clients, "_peer", make)
    for variable in ("SLIPSTREAM_PEERS__TRAINING_URL", "SLIPSTREAM_PEERS__SERVING_URL"):
        monkeypatch.delenv(variable, raising=False)
    return made
