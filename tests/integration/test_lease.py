"""The lease of a service, between instances on one database."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Column, Integer, String, Table, func, insert, select

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.lease import Lease, LeaseHeldError, LeaseLostError, lease_tables
from slipstream.stores.metadata import DatabaseUnavailableError, engine, new_metadata
from slipstream_cli.local.processes import free_port
from tests.waiting import until

SECONDS = 15.0

DEEDS = new_metadata()
deeds = Table(
    "deeds",
    DEEDS,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("by", String(32), nullable=False),
)


class Instance:
    """One of several instances of a service, with an engine of its own and the scene's clock."""

    def __init__(self, scene: "Scene", name: str, seconds: float = SECONDS) -> None:
        self.name, self.complaints = name, list[str]()
        self.db = engine(scene.settings)
        self.lease = Lease("shop", seconds, self.complaints.append, lambda: scene.now)

    def takes(self) -> bool:
        try:
            self.lease.take(self.db)
        except LeaseHeldError:
            return False
        return True

    def acts(self) -> bool:
        """Write a deed; False where the lease is lost."""
        try:
            with self.db.begin() as connection:
                connection.execute(insert(deeds).values(by=self.name))
        except LeaseLostError:
            return False
        return True


class Scene:
    """A database, and the time by every instance's clock."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self.settings, self.now = settings, 1_000.0
        self.instances: list[Instance] = []
        self.db = engine(settings)
        for tables in (lease_tables("shop"), DEEDS):
            tables.create_all(self.db)

    def instance(self, name: str, **named: Any) -> Instance:
        self.instances.append(Instance(self, name, **named))
        return self.instances[-1]

    def deeds(self) -> list[str]:
        with self.db.connect() as connection:
            return list(connection.scalars(select(deeds.c.by).order_by(deeds.c.number)))

    def close(self) -> None:
        for made in (self.db, *(instance.db for instance in self.instances)):
            made.dispose()


@pytest.fixture
def scene(database_settings: DatabaseSettings) -> Iterator[Scene]:
    made = Scene(database_settings)
    yield made
    made.close()


def test_who_waits_is_told_the_holder(scene: Scene) -> None:
    assert scene.instance("first").takes()
    second = scene.instance("second")
    with pytest.raises(LeaseHeldError, match=f"^{socket.gethostname()[:63]} acts for shop$"):
        second.lease.take(second.db)


def test_an_instance_waits_for_the_length_of_the_lease_after_the_last_renewal(scene: Scene) -> None:
    first, second = scene.instance("first"), scene.instance("second")
    assert first.takes() and not second.takes()
    scene.now += SECONDS - 1
    first.lease.renew()
    assert not second.takes()  # it sees the renewal now, whenever that was
    scene.now += SECONDS - 1
    assert not second.takes()
    scene.now += 1
    assert second.takes()
    assert second.acts() and not first.acts()


def test_a_lease_that_is_given_back_is_taken_at_once(scene: Scene) -> None:
    first, second = scene.instance("first"), scene.instance("second")
    assert first.takes() and not second.takes()
    first.lease.release()
    assert second.takes() and second.acts()
    assert not first.acts() and first.complaints == []
    first.lease.release()  # not the other's
    assert second.acts()


def test_a_holder_that_lost_its_lease_writes_nothing_more_and_still_reads(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Renewals soon, and not by a short lease: PostgreSQL ends transactions that idle for so long.
    monkeypatch.setattr("slipstream.stores.lease._RENEWALS", 1_000)
    first, second = scene.instance("first"), scene.instance("second")
    first.takes()
    assert first.acts() and not second.takes()
    scene.now += SECONDS
    assert second.takes() and second.acts()
    assert not first.acts()
    with pytest.raises(LeaseLostError):
        first.lease.renew()
    first.lease.keep(threading.Event())  # it returns: there is nothing to keep
    assert set(first.complaints) == {"another instance of shop has taken the lease"}
    with first.db.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(deeds)) == 2
    first.lease.release()
    assert second.acts()
    assert scene.deeds() == ["first", "second", "second"]


def test_a_holder_that_was_away_and_missed_nothing_goes_on(scene: Scene) -> None:
    first = scene.instance("first")
    first.takes()
    scene.now += 100 * SECONDS
    first.lease.renew()
    assert first.acts()


def test_waiting_begins_anew_after_the_database_was_away(scene: Scene) -> None:
    """Its holder could not renew meanwhile, and gets the time to."""
    first, second = scene.instance("first"), scene.instance("second")
    first.takes()
    assert not second.takes()
    nowhere = f"postgresql+psycopg://shop@127.0.0.1:{free_port()}/shop"
    away = engine(DatabaseSettings(url=SecretStr(nowhere)))
    scene.now += SECONDS
    with pytest.raises(DatabaseUnavailableError):
        second.lease.take(away)
    assert not second.takes()
    scene.now += SECONDS
    with pytest.raises(DatabaseUnavailableError):
        second.lease.take(second.db, lambda _: away.connect().close())
    assert not second.takes()
    first.lease.renew()
    assert first.acts()


def test_the_holders_own_length_counts(scene: Scene) -> None:
    first, second = scene.instance("first", seconds=60.0), scene.instance("second", seconds=1.0)
    first.takes()
    assert not second.takes()
    scene.now += 59
    assert not second.takes()
    scene.now += 1
    assert second.takes()


def test_an_instance_that_was_holder_before_is_not_taken_for_the_present_one(scene: Scene) -> None:
    first, second = scene.instance("first"), scene.instance("second")
    first.takes()
    old = Lease("shop", SECONDS, clock=lambda: scene.now)
    old.__dict__.update(first.lease.__dict__)  # as it stood, stopped for long
    second.takes()
    scene.now += SECONDS
    assert second.takes()
    second.lease.release()
    assert first.takes() and first.acts()
    with pytest.raises(LeaseLostError), first.db.begin() as connection:
        old._confirm(connection)


def test_an_engine_of_another_database_is_guarded_too(scene: Scene, tmp_path: Path) -> None:
    elsewhere = engine(DatabaseSettings(url=SecretStr(f"sqlite:///{tmp_path / 'other.db'}")))
    DEEDS.create_all(elsewhere)
    first, second = scene.instance("first"), scene.instance("second")
    first.takes()
    first.lease.guard(elsewhere)
    with elsewhere.begin() as connection:
        connection.execute(insert(deeds).values(by="first"))
    second.takes()
    scene.now += SECONDS
    assert second.takes()
    with pytest.raises(LeaseLostError), elsewhere.begin() as connection:
        connection.execute(insert(deeds).values(by="first"))
    second.lease.guard(elsewhere)  # as MLflow's, which a process shares
    with elsewhere.begin() as connection:
        connection.execute(insert(deeds).values(by="second"))
        connection.execute(insert(deeds).values(by="second"))
        assert connection.scalar(select(func.count()).select_from(deeds)) == 3
    elsewhere.dispose()


@pytest.mark.servers("real")
def test_the_lease_does_not_change_hands_within_a_transaction(scene: Scene) -> None:
    first, second = scene.instance("first"), scene.instance("second")
    first.takes()
    second.takes()
    with first.db.begin() as connection:
        connection.execute(insert(deeds).values(by="first"))
        first.lease.renew()  # a long transaction is in no renewal's way
        second.takes()
        scene.now += SECONDS
        assert not second.takes()
    assert second.takes()
    assert not first.acts()
    assert scene.deeds() == ["first"]


@pytest.mark.servers("real")
def test_a_holder_that_stops_within_a_transaction_does_not_keep_the_lease(scene: Scene) -> None:
    first, second = scene.instance("first", seconds=5.0), scene.instance("second")
    first.takes()
    second.takes()
    with pytest.raises(DatabaseUnavailableError), first.db.begin() as connection:
        connection.execute(insert(deeds).values(by="first"))
        scene.now += SECONDS
        until(second.takes)
        connection.execute(insert(deeds).values(by="first"))
    assert not first.acts() and second.acts()
    assert scene.deeds() == ["second"]


STEPS = st.one_of(
    st.tuples(st.sampled_from(["take", "renew", "act", "release"]), st.integers(0, 2)),
    st.tuples(st.just("pass"), st.sampled_from([1, 7, 15])),
)


@pytest.mark.servers("embedded")
def test_only_the_last_that_took_the_lease_ever_writes(scene: Scene) -> None:
    instances = [scene.instance(str(number)) for number in range(3)]
    for instance in instances:
        assert instance.takes()
        instance.lease.release()

    @property_settings(max_examples=20)
    @given(st.lists(STEPS, min_size=5, max_size=30))
    def holds(steps: list[tuple[str, int]]) -> None:
        for instance in instances:
            instance.lease.release()
        holder, silent_since = None, scene.now
        for step, number in steps:
            if step == "pass":
                scene.now += number
                continue
            instance = instances[number]
            if step == "take" and instance is not holder and instance.takes():
                assert holder is None or scene.now - silent_since >= SECONDS
                holder, silent_since = instance, scene.now
            elif step == "renew":
                with suppress(LeaseLostError):
                    instance.lease.renew()
                    assert instance is holder
                    silent_since = scene.now
            elif step == "act":
                assert instance.acts() == (instance is holder)
            elif step == "release":
                instance.lease.release()
                holder = None if instance is holder else holder

    holds()
