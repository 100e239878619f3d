"""A batch of aliases to an erased user, dated before the erasure, costs no pass of its own."""

from typing import Any

import pytest

from services.features.settings import FeaturesSettings
from slipstream.contracts.topics import INTERACTIONS, PEOPLE
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores import lake
from slipstream.stores.lake import Lake
from tests.integration.running_materializer import running
from tests.integration.test_erased_bytes import USER, erase, event, person

ALIASES = 1_000


@pytest.mark.servers("real")
@pytest.mark.parametrize("before_the_cut", [True, False])
def test_backdated_aliases_to_an_erased_user_make_one_pass(
    settings: FeaturesSettings, monkeypatch: pytest.MonkeyPatch, before_the_cut: bool
) -> None:
    passes = 0
    original = Lake.erase

    def counted(self: Lake, table: str, *arguments: Any) -> int:
        nonlocal passes
        passes += table == lake.INTERACTIONS
        return original(self, table, *arguments)

    monkeypatch.setattr(Lake, "erase", counted)
    devices = [f"device-{number}" for number in range(ALIASES)]
    with running(settings) as run:

        def send(*names: str) -> None:
            for name in names:
                _, key, record, _ = event(name, 0, -3_600_000)
                assert record is not None and not isinstance(record, bytes)
                run.producer.send(INTERACTIONS, key, record)

        def send_aliases() -> None:
            for device in devices:
                _, key, record, _ = person("identity", device, -7_200_000, **{MERGED_INTO: USER})
                assert record is not None and not isinstance(record, bytes)
                run.producer.send(PEOPLE, key, record)

        send(USER, *devices)
        if before_the_cut:
            send_aliases()
        run.producer.flush(60)
        erase(settings, run.producer)
        if not before_the_cut:
            send_aliases()
        run.producer.flush(60)
        run.settle(120)
        run.erase(1)
        run.settle(120)
        assert run.erasures.step().people == [] and run.erasures.waiting == 0
        # One, and one more where links were still on their way to the lake.
        assert 1 <= passes <= 3
        kept = run.lake.read(lake.INTERACTIONS, columns=["user_id"])["user_id"].to_pylist()
        state = run.store.visitor(USER)
        # An alias that was made before the erasure and is read behind its cut links no visitor.
        assert len(kept) == (0 if before_the_cut else ALIASES) and state is None
