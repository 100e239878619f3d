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
    MetaData,
    String,
    Table,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import (
    DatabaseUnavailableError,
    SchemaVersionError,
    engine,
    new_metadata,
    prepare,
    reach,
)


def settings(folder: Path) -> DatabaseSettings:
    return DatabaseSettings(url=SecretStr(f"sqlite:///{folder / 'deep' / 'metadata.db'}"))


def tables(*columns: str) -> tuple[MetaData, Table]:
    metadata = new_metadata()
    return metadata, Table(
        "note",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, String(9)) for name in columns),
    )


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
    metadata, note = tables()
    prepare(db, "notes", metadata)
    with pytest.raises(ZeroDivisionError), db.begin() as connection:
        connection.execute(insert(note).values(id=1))
        _ = 1 / 0
    with db.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(note)) == 0


def test_reading_then_writing_loses_no_update_among_threads(db: Engine) -> None:
    metadata, note = tables("word")
    prepare(db, "notes", metadata)
    with db.begin() as connection:
        connection.execute(insert(note).values(id=1, word="0"))
    together = threading.Barrier(4)

    def add_five() -> None:
        together.wait()
        for _ in range(5):
            with db.begin() as connection:
                word = connection.scalar(select(note.c.word))
                connection.execute(update(note).values(word=str(int(word or 0) + 1)))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(add_five) for _ in range(4)]:
            done.result()
    with db.connect() as connection:
        assert connection.scalar(select(note.c.word)) == "20"


def test_prepare_twice_keeps_rows(db: Engine) -> None:
    metadata, note = tables()
    prepare(db, "notes", metadata)
    with db.begin() as connection:
        connection.execute(insert(note).values(id=1))
    prepare(db, "notes", metadata)
    with db.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(note)) == 1


def test_prepare_at_once_from_several_engines_succeeds(tmp_path: Path) -> None:
    engine(settings(tmp_path))
    together = threading.Barrier(4)

    def start(number: int) -> None:
        own = engine(settings(tmp_path))
        metadata = new_metadata()
        Table(f"own_{number % 2}", metadata, Column("id", Integer, primary_key=True))
        together.wait()
        prepare(own, f"service-{number % 2}", metadata)
        own.dispose()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(start, number) for number in range(4)]:
            done.result()
    assert {"own_0", "own_1", "schema_version"} <= set(
        inspect(engine(settings(tmp_path))).get_table_names()
    )


def test_prepare_older_tables_applies_only_missing_migrations(db: Engine) -> None:
    first, _ = tables()
    prepare(db, "notes", first)
    to_second = ["ALTER TABLE note ADD COLUMN word VARCHAR(9)"]
    prepare(db, "notes", tables("word")[0], [to_second])
    prepare(
        db,
        "notes",
        tables("word", "tone")[0],
        [to_second, ["ALTER TABLE note ADD COLUMN tone VARCHAR(9)"]],
    )
    assert [column["name"] for column in inspect(db).get_columns("note")] == ["id", "word", "tone"]


def test_prepare_newer_tables_is_refused(db: Engine) -> None:
    prepare(db, "notes", tables("word")[0], [["SELECT 1"]])
    with pytest.raises(SchemaVersionError, match="version 2"):
        prepare(db, "notes", tables()[0])


def test_prepare_failing_migration_changes_nothing(db: Engine) -> None:
    prepare(db, "notes", tables()[0])
    with pytest.raises(Exception, match="nonsense"):
        prepare(
            db, "notes", tables()[0], [["ALTER TABLE note ADD COLUMN word VARCHAR(9)", "nonsense"]]
        )
    assert [column["name"] for column in inspect(db).get_columns("note")] == ["id"]
    prepare(db, "notes", tables()[0])


def test_new_metadata_names_constraints() -> None:
    _, note = tables()
    assert note.primary_key.name == "pk_note"


def test_a_statement_that_is_wrong_is_no_absence_of_the_database(db: Engine) -> None:
    with pytest.raises(OperationalError, match="no such table"), db.connect() as connection:
        connection.execute(text("SELECT * FROM nowhere"))
    metadata, note = tables()
    prepare(db, "notes", metadata)
    with pytest.raises(IntegrityError), db.begin() as connection:
        connection.execute(insert(note), [{"id": 1}, {"id": 1}])


def test_sqlite_that_another_holds_for_long_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.stores.metadata.BUSY_TIMEOUT_MS", 10)
    first, second = engine(settings(tmp_path)), engine(settings(tmp_path))
    with (
        first.begin(),
        pytest.raises(DatabaseUnavailableError, match="is not available: database is locked"),
    ):
        prepare(second, "notes", tables()[0])
    prepare(second, "notes", tables()[0])


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
            prepare(made, "notes", tables()[0])
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
        refusing.join(30)
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
