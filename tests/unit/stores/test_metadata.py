"""The metadata database on a real SQLite file."""

import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    String,
    Table,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import DatabaseUnavailableError, engine, new_metadata, reach


def settings(folder: Path) -> DatabaseSettings:
    return DatabaseSettings(url=SecretStr(f"sqlite:///{folder / 'deep' / 'metadata.db'}"))


NOTES = new_metadata()
NOTE = Table("note", NOTES, Column("id", Integer, primary_key=True), Column("word", String(9)))


@pytest.fixture
def db(tmp_path: Path) -> Engine:
    return engine(settings(tmp_path))


def test_engine_sqlite_uses_wal_and_foreign_keys(db: Engine) -> None:
    with db.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1


def test_engine_postgresql_is_made_without_connecting() -> None:
    made = engine(DatabaseSettings(url=SecretStr("postgresql+psycopg://u:p@nowhere.invalid/db")))
    assert made.dialect.name == "postgresql"
    assert made.url.query["connect_timeout"] == "5"


def test_transaction_is_rolled_back_on_failure(db: Engine) -> None:
    NOTES.create_all(db)
    with pytest.raises(ZeroDivisionError), db.begin() as connection:
        connection.execute(insert(NOTE).values(id=1))
        _ = 1 / 0
    with db.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(NOTE)) == 0


def test_reading_then_writing_loses_no_update_among_threads(db: Engine) -> None:
    NOTES.create_all(db)
    with db.begin() as connection:
        connection.execute(insert(NOTE).values(id=1, word="0"))
    together = threading.Barrier(4)

    def add_five() -> None:
        together.wait()
        for _ in range(5):
            with db.begin() as connection:
                word = connection.scalar(select(NOTE.c.word))
                connection.execute(update(NOTE).values(word=str(int(word or 0) + 1)))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(add_five) for _ in range(4)]:
            done.result()
    with db.connect() as connection:
        assert connection.scalar(select(NOTE.c.word)) == "20"


def test_new_metadata_names_constraints() -> None:
    assert NOTE.primary_key.name == "pk_note"


def test_a_statement_that_is_wrong_is_no_absence_of_the_database(db: Engine) -> None:
    with pytest.raises(OperationalError, match="no such table"), db.connect() as connection:
        connection.execute(text("SELECT * FROM nowhere"))
    NOTES.create_all(db)
    with pytest.raises(IntegrityError), db.begin() as connection:
        connection.execute(insert(NOTE), [{"id": 1}, {"id": 1}])


def test_sqlite_that_another_holds_for_long_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.stores.metadata.BUSY_TIMEOUT_MS", 10)
    first, second = engine(settings(tmp_path)), engine(settings(tmp_path))
    with (
        first.begin(),
        pytest.raises(DatabaseUnavailableError, match="is not available: database is locked"),
    ):
        NOTES.create_all(second)
    NOTES.create_all(second)


def test_postgresql_that_does_not_answer_is_one_line_without_the_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        made = engine(
            DatabaseSettings(
                url=SecretStr(
                    f"postgresql+psycopg://u:s3cret@127.0.0.1:{taken.getsockname()[1]}/shop"
                )
            )
        )
        with pytest.raises(DatabaseUnavailableError) as failure:
            NOTES.create_all(made)
    said = str(failure.value)
    assert (
        said.startswith("the database postgresql+psycopg://u:***@127.0.0.1:") and "refused" in said
    )
    assert "\n" not in said and "s3cret" not in said


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("28P01", 'password authentication failed for user "u"'),
        ("3D000", 'database "shop" does not exist'),
    ],
)
def test_postgresql_that_lets_nobody_in_is_waited_for_in_its_own_words(
    state: str, words: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refusing = threading.Thread(target=refuse, args=(server, state, words), daemon=True)
        refusing.start()
        with pytest.raises(DatabaseUnavailableError) as failure:
            reach(
                f"postgresql+psycopg://u:s3cret@127.0.0.1:{port}/shop?sslmode=disable&gssencmode=disable"
            )
        refusing.join(60)
    assert words in str(failure.value)
    assert "\n" not in str(failure.value) and "s3cret" not in str(failure.value)


def refuse(server: socket.socket, state: str, words: str) -> None:
    """Answer one start-up message as PostgreSQL answers who may not come in."""
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        fields = (
            b"".join(
                kind + value.encode() + b"\0"
                for kind, value in ((b"S", "FATAL"), (b"C", state), (b"M", words))
            )
            + b"\0"
        )
        connection.sendall(b"E" + struct.pack(">i", 4 + len(fields)) + fields)
