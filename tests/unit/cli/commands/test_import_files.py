"""`slipstream import` and `slipstream replay`: from a file to what ingestion is sent."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slipstream_cli import imports
from slipstream_cli.__main__ import cli
from tests.unit.datasets.ingestion_double import Collector, collector, short_pauses

__all__ = ["collector", "short_pauses"]
pytestmark = pytest.mark.usefixtures("short_pauses")

# Eight blemishes: a byte order mark, semicolons, times with zones, prices with a currency and a
# decimal comma, rows without a type, an order's line twice, a refund, and a bad row.
BLEMISHED = """\
Kundennummer;SKU;Typ;Bestelldatum;Bestellnummer;Position;Einzelpreis;Menge
k1;kanne;Kauf;2026-10-01T12:00:00+02:00;o1;1;EUR 12,90;1
k1;kanne;Kauf;2026-10-01T12:00:00+02:00;o1;1;EUR 12,90;1
k1;tasse;;2026-10-01T12:00:00+02:00;o1;2;EUR 1.299,00;2
k2;tasse;Kauf;2026-10-02T08:30:00Z;o2;1;EUR 5,00;-1
k3;kanne;Kauf;gestern;o3;1;EUR 12,90;1
k3;sieb;angesehen;2026-10-03T08:30:00Z;;;;
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_text(BLEMISHED, encoding="utf-8-sig")
    (tmp_path / "items.csv").write_text("sku,name,in_stock\nkanne,Kanne,1\ntasse,1984,no\n")
    return tmp_path


def run(command: str, *arguments: str, url: str = "", typed: str | None = None) -> Result:
    where = ("--url", url) if url else ()
    return CliRunner().invoke(cli, [command, *arguments, *where], input=typed)


def test_an_export_with_eight_blemishes_arrives_as_it_was_meant(
    collector: Collector, here: Path
) -> None:
    answer = run("import", "orders.csv", "items.csv", "--event-type", "purchase", url=collector.url)
    assert answer.exit_code == 1, "a row was rejected"
    events = collector.events()
    assert [
        (event["userId"], event["event"], event["properties"]["item_id"], event["timestamp"])
        for event in sorted(events, key=lambda event: event["timestamp"])
    ] == [
        ("k1", "purchase", "kanne", 1_790_848_800_000),
        ("k1", "purchase", "kanne", 1_790_848_800_000),
        ("k1", "purchase", "tasse", 1_790_848_800_000),
        ("k2", "remove", "tasse", 1_790_929_800_000),
        ("k3", "view", "sieb", 1_791_016_200_000),
    ]
    assert len({event["messageId"] for event in events}) == 4, "the order's line is one event"
    assert events[2]["properties"] == {
        "item_id": "tasse", "order_id": "o1", "order_line": "2", "price": 1299, "currency": "EUR",
        "quantity": 2,
    }  # fmt: skip
    (catalogue,) = (body["items"] for path, body, _ in collector.bodies if path == "/v1/items")
    assert catalogue == [
        {"item_id": "kanne", "title": "Kanne", "available": True},
        {"item_id": "tasse", "title": "1984", "available": False},
    ]
    assert "accepted    4\nduplicates  1" in answer.output
    with (here / "import.rejected.csv").open(encoding="utf-8-sig", newline="") as file:
        (rejected,) = csv.DictReader(file)
    named = ("file", "line", "field", "cell")
    assert [rejected[name] for name in named] == ["orders.csv", "6", "Bestelldatum", "gestern"]
    assert json.loads(rejected["row"])["Kundennummer"] == "k3"

    again = run("import", "orders.csv", "--event-type", "purchase", url=collector.url)
    assert "accepted    0\nduplicates  5" in again.output


def test_nothing_is_sent_while_a_question_is_open(collector: Collector) -> None:
    answer = run("import", "orders.csv", url=collector.url)
    assert answer.exit_code == 1
    assert "6 rows: 3 visitors, 3 items, 2026-10-01 to 2026-10-03" in answer.output
    assert answer.output.splitlines()[-1] == (
        "Error: orders.csv: `Typ` is empty in 1 row: --event-type purchase?"
    )
    assert not collector.bodies
    answer = run("replay", "orders.csv", url=collector.url)
    assert (answer.exit_code, collector.bodies) == (1, [])


def test_an_option_is_for_the_file_that_has_its_column(collector: Collector) -> None:
    Path("events.csv").write_text("who,sku,type,ts\nu,kanne,buy,1790000000\n")
    files = ("import", "events.csv", "items.csv", "--map", "who=user_id")
    assert run(*files, url=collector.url).exit_code == 0
    answer = run(*files, "--map", "whom=item_id", url=collector.url)
    assert answer.exit_code == 1
    last = answer.output.splitlines()[-1]
    assert last == "Error: no file has a column whom; did you mean who?"


def test_a_column_that_no_file_has_is_told_before_what_is_missing_for_it() -> None:
    Path("events.csv").write_text("Kunde;Artikelnr;Vorgang\n1;a;view\n")
    for command in (("import", "events.csv", "--dry-run"), ("replay", "events.csv")):
        answer = run(*command, "--map", "Artikelnummer=item_id", url="http://127.0.0.1:9")
        assert answer.exit_code == 1
        assert answer.output == (
            "Error: no file has a column Artikelnummer; did you mean Artikelnr?\n"
        )


def test_events_that_name_no_item_are_asked_about(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("items.csv").write_text("sku,handle,title\n1,red,Red\n2,blue,Blue\n")
    Path("events.csv").write_text("user_id,sku,type,ts\nu,red,buy,1790000000\n")
    files = ("import", "events.csv", "items.csv")
    refused = run(*files, url=collector.url)
    assert (refused.exit_code, collector.bodies) == (1, [])
    assert refused.output.splitlines()[-1] == (
        "Error: 1 of the 1 items of the events have no entry: --map handle=item_id?"
    )
    assert run(*files, "--map", "handle=item_id", url=collector.url).exit_code == 0
    # Whoever has chosen a column gets a note.
    noted = run(*files, "--map", "sku=item_id", "--dry-run", url=collector.url)
    assert "Note: 1 of the 1 items of the events have no entry.\n" in noted.output
    collector.bodies.clear()
    monkeypatch.setattr(imports, "is_asked", lambda: True)
    assert run(*files, url=collector.url, typed="\n\n").exit_code == 0
    sent = [item["item_id"] for _, body, _ in collector.bodies for item in body.get("items", ())]
    assert sent == ["red", "blue"]


def test_at_a_terminal_it_asks(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "is_asked", lambda: True)
    Path("events.csv").write_text("user_id,sku,type,ts\nu,i,blorb,1790000000\nu,i,,1790000000\n")
    refused = run("import", "events.csv", url=collector.url, typed="\n4711\nsee\nn\n")
    assert (refused.exit_code, collector.bodies) == (1, [])
    assert "no type of events" in refused.output
    taken = run("import", "events.csv", url=collector.url, typed="\nwishlist\ny\n")
    assert taken.exit_code == 0
    assert sorted(event["event"] for event in collector.events()) == ["view", "wishlist"]


def test_a_dry_run_sends_nothing_and_writes_what_is_rejected(
    collector: Collector, here: Path
) -> None:
    answer = run("import", "orders.csv", "--event-type", "Kauf", "--dry-run", url=collector.url)
    assert (answer.exit_code, collector.bodies) == (1, [])
    assert "1 purchase with a negative value: read as refunds (remove)" in answer.output
    assert (here / "orders.rejected.csv").exists()


def test_what_ingestion_rejects_is_written_with_its_line(collector: Collector, here: Path) -> None:
    Path("events.csv").write_text(
        "user_id,sku,type,ts\nu,i,buy,1790000000\nnobody,i,buy,1790000000\n"
    )
    answer = run("replay", "events.csv", url=collector.url)
    assert answer.exit_code == 1
    assert "Next: slipstream dead-letters list --since 10m" in answer.output
    with (here / "events.rejected.csv").open(encoding="utf-8-sig", newline="") as file:
        (rejected,) = csv.DictReader(file)
    named = ("file", "line", "code", "field", "cell")
    assert [rejected[name] for name in named] == ["events.csv", "3", "bad", "user_id", "nobody"]


def test_a_further_row_of_an_item_adds_to_it(collector: Collector) -> None:
    rows = "".join(f"{n},Item {n},\n" for n in range(500))
    Path("shop.csv").write_text(f"sku,title,colour\n0,Zero,red\n0,,blue\n{rows}1,,green\n")
    assert run("import", "shop.csv", url=collector.url).exit_code == 0
    first, *others = [body["items"] for path, body, _ in collector.bodies if path == "/v1/items"]
    assert first[0] == {"item_id": "0", "title": "Item 0", "colour": "blue"}
    assert others[-1] == [{"item_id": "1", "colour": "green"}]
    assert collector.patched == [{"item_id": "1", "colour": "green"}]


def test_what_the_lake_has_is_a_duplicate_whatever_ingestion_remembers(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("events.csv").write_text("event_id,user_id,sku,type,ts\ne1,u,i,buy,1790000000\n")
    monkeypatch.setattr("slipstream_cli.imports.events_in_lake", lambda *_: {hash("e1")})
    answer = run("import", "events.csv", url=collector.url)
    assert "accepted    0\nduplicates  1" in answer.output


def test_replay_says_what_is_wrong_with_a_file() -> None:
    Path("bare.csv").write_text("user_id,item_id\n1,2\n")
    answer = run("replay", "bare.csv", url="http://127.0.0.1:1")
    assert answer.exit_code == 1
    assert "no column is known as timestamp" in answer.output.splitlines()[-1]
    assert "Traceback" not in answer.output


@pytest.mark.parametrize(
    "wrong",
    [
        ("--map", "x"), ("--map", "nobody=user_id"), ("--type", "a=1"), ("--encoding", "klingon"),
        ("--timezone", "Mars"), ("--delimiter", ";;"), ("--event-type", "4711"),
    ],
)  # fmt: skip
def test_wrong_options_are_told(wrong: tuple[str, str]) -> None:
    answer = run("import", "orders.csv", *wrong, url="http://127.0.0.1:1")
    assert answer.exit_code != 0 and "Error:" in answer.output
    assert "Traceback" not in answer.output


def test_without_a_stack_on_the_data_folder_nothing_is_sent_elsewhere(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPSTREAM_PEERS__INGESTION_URL", raising=False)
    running: list[Path] = []
    monkeypatch.setattr("slipstream_cli.local.data_folder.running_stacks", lambda: running)
    commands: list[tuple[Any, ...]] = [
        ("import", "orders.csv", "--event-type", "purchase"),
        ("replay", "orders.csv", "--event-type", "purchase"),
        ("runs", "start"),
    ]
    for command in commands:
        answer = run(*command, "--data-dir", "nothing")
        assert answer.exit_code == 1
        assert "no stack runs on nothing: start it with slipstream up" in answer.output
    running.append(Path("/elsewhere"))
    for command in commands:
        answer = run(*command)
        assert answer.exit_code == 1
        assert "no stack runs on .slipstream, but one on /elsewhere" in answer.output
    running.append(below := here / "shop" / ".slipstream")
    assert f"say --data-dir {below}," in run(*commands[0]).output
