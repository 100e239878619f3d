"""From files to events and items: what is understood, asked, and rejected."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from slipstream.datasets.imports.columns import (
    ColumnsError,
    chosen_type,
    event_columns,
    item_columns,
    known_type,
)
from slipstream.datasets.imports.conversion import Event, Item, Rejection, Repetitions, message_id
from slipstream.datasets.imports.sending import in_order
from slipstream.datasets.imports.sources import ImportFileError, find_files
from slipstream.datasets.imports.surveys import (
    Export,
    Survey,
    describe,
    foreign_ids,
    offered,
    open_export,
    questions,
    refuse_without_items,
)
from slipstream.datasets.imports.understanding import Choices, Kind


def export_of(
    tmp_path: Path, text: str, kind: Kind | None = None, choices: Choices = Choices()
) -> Export:
    path = tmp_path / "export.csv"
    path.write_text(text)
    (file,) = find_files(str(path))
    return open_export(file, choices, kind)


def read(export: Export) -> tuple[list[Any], list[Rejection]]:
    rejected: list[Rejection] = []
    return list(export.entries(rejected.append)), rejected


def ids(events: Sequence[Event]) -> list[str]:
    repetitions = Repetitions()
    return [
        message_id(e.identity, repetitions.number(e.identity, e.timestamp, e.unique))
        for e in in_order(events)
    ]


@pytest.mark.parametrize(
    ("name", "event_type"),
    [
        ("order", "purchase"), ("Kauf", "purchase"), ("buy", "purchase"),
        ("transaction", "purchase"), ("add_to_cart", "cart"), ("addToCart", "cart"),
        ("In den Warenkorb", "cart"),
        ("Produkt angesehen", "view"), ("Rückgabe", "remove"), ("refund", "remove"),
        ("achat", "purchase"), ("Compra", "purchase"), ("product viewed", "view"),
        ("acheté", "purchase"), ("mise en favoris", "wishlist"), ("blorb", None),
    ],
)  # fmt: skip
def test_types_in_the_languages_of_exports(name: str, event_type: str | None) -> None:
    assert known_type(name) == event_type


def test_chosen_types() -> None:
    assert [chosen_type(name) for name in ("Kauf", "skip", "test_drive")] == [
        "purchase",
        "skip",
        "test_drive",
    ]
    with pytest.raises(ValueError, match="no type"):
        chosen_type("4711")


def test_columns_are_known_by_their_usual_names_or_chosen() -> None:
    assert event_columns(["customer_id", "sku", "ts", "qty", "Farbe"], {}) == {
        "customer_id": "user_id",
        "sku": "item_id",
        "ts": "timestamp",
        "qty": "quantity",
        "Farbe": "Farbe",
    }
    chosen = event_columns(["who", "sku", "ts", "user_id"], {"who": "user_id", "user_id": ""})
    assert chosen == {"who": "user_id", "sku": "item_id", "ts": "timestamp"}
    assert item_columns(["id", "name", "in_stock", "image", "qty"], {}) == {
        "id": "item_id",
        "name": "title",
        "in_stock": "available",
        "image": "image_url",
        "qty": "stock",
    }
    with pytest.raises(ColumnsError, match="--map COLUMN=user_id --map COLUMN=timestamp"):
        event_columns(["who", "sku"], {})
    with pytest.raises(ColumnsError, match="there is no column whom"):
        event_columns(["user_id", "ts"], {"whom": "user_id"})


def test_a_position_beside_an_order_is_its_line_and_else_that_in_the_slate() -> None:
    columns = ["user_id", "sku", "ts", "position"]
    assert event_columns(columns, {})["position"] == "position"
    assert event_columns([*columns, "order_id"], {})["position"] == "order_line"
    in_slates = event_columns([*columns, "order_id", "recommendation_id"], {})
    assert in_slates["position"] == "position"


def test_a_preview_has_the_figures_and_asks_for_the_type(tmp_path: Path) -> None:
    rows = [f"u{n % 20},i{n % 30},2026-10-{n % 28 + 1:02}T10:00Z,o{n}" for n in range(200)]
    export = export_of(tmp_path, "\n".join(["customer_id,sku,ts,order_id", *rows]))
    survey = export.survey()
    assert describe(export, survey)[0] == (
        "200 rows: 20 visitors, 30 items, 2026-10-01 to 2026-10-28"
    )
    assert questions(export, survey) == ["`event_type` is missing: --event-type purchase?"]
    chosen = export_of(
        tmp_path, (tmp_path / "export.csv").read_text(), None, Choices(event_type="purchase")
    )
    assert questions(chosen, chosen.survey()) == []
    assert {event.event_type for event in read(chosen)[0]} == {"purchase"}


def test_unknown_types_are_asked_about(tmp_path: Path) -> None:
    text = "user_id,item_id,ts,type\nu,i,2026-10-01,blorb\nu,i,2026-10-02,Kauf\nu,,2026-10-02,foo\n"
    export = export_of(tmp_path, text)
    (asked,) = questions(export, export.survey())
    assert "'blorb' (1), 'foo' (1): --type 'blorb=view'" in asked
    chosen = export_of(tmp_path, text, None, Choices(types={"blorb": "skip", "foo": "foo"}))
    survey = chosen.survey()
    assert (questions(chosen, survey), survey.skipped) == ([], 1)
    assert [event.event_type for event in read(chosen)[0]] == ["purchase", "foo"]


def test_seconds_and_milliseconds_are_told_apart_with_a_word(tmp_path: Path) -> None:
    text = "user_id,item_id,event_type,ts\nu,i,view,{}\n"
    seconds = export_of(tmp_path, text.format(1_790_000_000))
    assert read(seconds)[0][0].timestamp == 1_790_000_000_000
    assert any("`ts` is in seconds" in note for note in seconds.understanding.notes)
    millis = export_of(tmp_path, text.format(1_790_000_000_000))
    assert read(millis)[0][0].timestamp == 1_790_000_000_000
    assert any("milliseconds" in note for note in millis.understanding.notes)


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (["2026-10-01T10:00Z", "1790000000", "yesterday"], False),
        (["2026-10-01T10:00Z", "2026-10-01"], True),
    ],
)
def test_times_without_a_zone_are_told(tmp_path: Path, times: list[str], told: bool) -> None:
    rows = "".join(f"u,i,view,{time}\n" for time in times)
    export = export_of(tmp_path, "user_id,item_id,event_type,ts\n" + rows)
    assert any("taken as UTC" in note for note in export.understanding.notes) == told


def test_a_date_that_may_be_read_in_two_ways_is_asked_about(tmp_path: Path) -> None:
    text = "user_id,item_id,event_type,date\nu,i,view,1/2/2026\n"
    with pytest.raises(ImportFileError, match="--time-format"):
        export_of(tmp_path, text)
    told = export_of(tmp_path, text + "u,i,view,13/2/2026\n")
    assert [event.timestamp for event in read(told)[0]] == [1_769_904_000_000, 1_770_940_800_000]


def test_refunds_are_no_interest(tmp_path: Path) -> None:
    text = (
        "user_id,item_id,event_type,ts,value,qty\n"
        "u,i,refund,2026-10-01,-5,\nu,i,purchase,2026-10-01,-5,\nu,i,Kauf,2026-10-01,5,-1\n"
        "u,i,Kauf,2026-10-01,5,1\n"
    )
    export = export_of(tmp_path, text)
    assert [event.event_type for event in read(export)[0]] == ["remove"] * 3 + ["purchase"]
    assert export.survey().refunds == 2


def test_an_order_and_its_line_tell_events_apart(tmp_path: Path) -> None:
    header, row = "user_id,item_id,event_type,ts,order_id,line\n", "u,i,buy,2026-10-01,{}\n"
    lines = ["o1,1", "o1,1", "o1,2", "o2,1", ","]
    events, _ = read(export_of(tmp_path, header + "".join(map(row.format, [*lines, ","]))))
    assert len(set(ids(events))) == 5, "the equal lines of o1 are one, those without an order two"
    later, _ = read(export_of(tmp_path, header + "".join(map(row.format, [",", *lines[2:]]))))
    assert set(ids(later)) <= set(ids(events)), "another export of some of these rows"


def test_an_id_of_the_export_is_kept(tmp_path: Path) -> None:
    text = "event_id,user_id,item_id,event_type,ts\ne-1,u,i,view,2026-10-01\n"
    assert ids(read(export_of(tmp_path, text))[0]) == ["e-1"]


def test_a_bad_cell_costs_its_row_and_not_its_column(tmp_path: Path) -> None:
    rows = [f"u,i,view,2026-10-01,{n},00{n}" for n in range(40)]
    rows[7] = "u,i,view,2026-10-01,many,007"
    export = export_of(tmp_path, "\n".join(["user_id,item_id,event_type,ts,weight,code", *rows]))
    events, rejected = read(export)
    assert [event.call["properties"]["weight"] for event in events[:2]] == [0, 1]
    assert events[2].call["properties"]["code"] == "002", "digits would be lost"
    (bad,) = rejected
    assert (bad.line, bad.field, bad.reason) == (9, "weight", "'many' is not a number")
    as_text = export_of(
        tmp_path, (tmp_path / "export.csv").read_text(), None, Choices(texts=frozenset({"weight"}))
    )
    assert len(read(as_text)[0]) == 40


def test_items_have_the_types_that_ingestion_takes(tmp_path: Path) -> None:
    text = (
        "sku,name,in_stock,price,tags,kategorien,valid\n"
        "1,1984,1,EUR 12,a|b,Bücher|Romane,true\n"
        "2,2001,0,,c,,false\n3,,maybe,x,,,\n"
    )
    export = export_of(tmp_path, text)
    entries, rejected = read(export)
    assert export.understanding.kind == "items"
    assert [item.entry for item in entries if isinstance(item, Item)] == [
        {
            "item_id": "1", "title": "1984", "available": True, "price": 12, "currency": "EUR",
            "tags": ["a", "b"], "categories": ["Bücher", "Romane"], "valid": True,
        },
        {"item_id": "2", "title": "2001", "available": False, "tags": ["c"], "valid": False},
    ]  # fmt: skip
    assert [(bad.line, bad.field) for bad in rejected] == [(4, "in_stock")]


def test_an_item_that_occurs_again_is_told(tmp_path: Path) -> None:
    export = export_of(tmp_path, "sku,name\na1,A\nb2,B\na1,Again\nc3,C\nc3,C\nc3,C\n")
    lines = describe(export, export.survey())
    assert lines[-2:] == [
        "a1 occurs twice; its rows make one item, and later values count",
        "c3 occurs 3 times; its rows make one item, and later values count",
    ]


def test_columns_of_one_category_are_items_categories(tmp_path: Path) -> None:
    text = "sku,product_type,category,name\n1,Apparel > Shirts,Shirts|New,A\n2,,7,B\n3,,,C\n"
    export = export_of(tmp_path, text)
    assert [item.entry.get("categories") for item in read(export)[0]] == [
        ["Apparel", "Shirts", "New"],
        ["7"],
        None,
    ]
    told = "\n".join(describe(export, export.survey()))
    assert "`product_type` as categories, `category` as categories" in told


def test_a_stock_makes_items_available(tmp_path: Path) -> None:
    entries, _ = read(export_of(tmp_path, "sku,name,qty\n1,a,0\n2,b,3\n"))
    assert [item.entry["available"] for item in entries] == [False, True]


def test_several_items_in_a_cell_are_products(tmp_path: Path) -> None:
    export = export_of(tmp_path, "user_id,items_,event_type,ts\n", None)  # too few to tell
    assert export.survey().rows == 0
    text = "user_id,sku,event_type,ts\nu,a|b,purchase,2026-10-01\n"
    (event,) = read(export_of(tmp_path, text))[0]
    assert event.call["properties"] == {"products": ["a", "b"]}


@pytest.mark.parametrize("rows_in_memory", [1, 7, 1_000])
def test_events_are_put_in_order_whatever_fits_in_memory(
    tmp_path: Path, rows_in_memory: int
) -> None:
    rows = [f"u{n},i,view,{1_790_000_000 + n * 7 % 20}" for n in range(50)]
    export = export_of(tmp_path, "\n".join(["user_id,item_id,event_type,ts", *rows]))
    events, _ = read(export)
    ordered = list(in_order(events, rows_in_memory=rows_in_memory))
    assert ordered == sorted(events, key=lambda event: event.timestamp)


@pytest.mark.parametrize(
    ("days", "clocks"),
    [
        (["03/09/2026", "14/9/2026"], ["9:59", "21:05"]),
        (["3.9.2026", "14.9.2026"], ["9:59:00", "21:05:00"]),
        (["2026-09-03", "2026-09-14"], ["9:59 AM", "9:05 PM"]),
    ],
)
@pytest.mark.parametrize("names", ["Date,Heure", "Date,Time", "Uhrzeit,Datum", "Fecha,Hora"])
def test_a_column_of_times_of_day_belongs_to_the_one_of_days(
    tmp_path: Path, names: str, days: list[str], clocks: list[str]
) -> None:
    cells = zip(days, clocks, strict=True)
    turned = names.startswith("Uhrzeit")
    rows = [",".join((*(reversed(pair) if turned else pair), "u", "i")) for pair in cells]
    export = export_of(tmp_path, "\n".join([f"{names},client_id,sku", *rows]))
    events, rejected = read(export)
    assert rejected == []
    assert [event.timestamp for event in events] == [1_788_429_540_000, 1_789_419_900_000]
    assert "time_of_day" not in events[0].call["properties"]
    assert any("is the time of day of" in line for line in describe(export, export.survey()))


def test_a_time_that_has_its_day_needs_no_other_column(tmp_path: Path) -> None:
    export = export_of(tmp_path, "time,date,user_id,sku\n1788429540,2026-01-01,u,i\n")
    (event,), rejected = read(export)
    assert (event.timestamp, rejected) == (1_788_429_540_000, [])
    chosen = Choices({"clock": "time_of_day"})
    text = "ts,clock,user_id,sku\n2026-09-03T09:59Z,11:00,u,i\n2026-09-03,,u,i\n2026-09-03,x,u,i\n"
    events, (bad,) = read(export_of(tmp_path, text, None, chosen))
    assert [event.timestamp for event in events] == [1_788_429_540_000, 1_788_393_600_000]
    assert (bad.line, bad.code) == (4, "invalid_timestamp")


def test_items_without_a_column_are_refused_with_what_to_say(tmp_path: Path) -> None:
    text = "user_id,Ref,ts,type\nu,a,2026-10-01,view\nu,a,2026-10-02,blorb\n"
    export = export_of(tmp_path, text)
    with pytest.raises(ImportFileError, match=r"COLUMN=item_id \(columns: user_id, Ref, ts"):
        refuse_without_items(export, export.survey())
    mapped = export_of(tmp_path, text, None, Choices({"Ref": "item_id"}))
    refuse_without_items(mapped, mapped.survey())
    searches = export_of(tmp_path, "user_id,q,ts,type\nu,a,2026-10-01,search\n")
    refuse_without_items(searches, searches.survey())


def test_a_preview_names_the_columns_that_it_knows_nothing_of(tmp_path: Path) -> None:
    export = export_of(tmp_path, "sku,Désignation,Prix TTC,Couleur,Taille\na,Bol,$5.00,bleu,42\n")
    lines = describe(export, export.survey())
    assert "columns: `sku` as item_id, `Désignation` as title, `Prix TTC` as price" in lines
    assert "kept under their own names: `Couleur`, `Taille`" in lines


GERMAN = (
    "Kunde;Artikelnr;Vorgang;Sitzung;Datum;Menge\n"
    "k1;4711;Angesehen;s1;2.11.2026;\nk1;4711;In den Warenkorb;s1;2.11.2026;1\n"
    ";4712;Angesehen;s2;2.11.2026;\nk2;4711;Rückgabe;s3;2.11.2026;1\n"
)


def test_a_column_of_types_is_known_by_its_cells(tmp_path: Path) -> None:
    export = export_of(tmp_path, GERMAN)
    assert export.understanding.column_of("event_type") == "Vorgang"
    assert export.survey().types == {"view": 1, "cart": 1, "remove": 1}
    # Another column has the name, and none of the words.
    misnamed = GERMAN.replace("Sitzung", "Typ")
    assert export_of(tmp_path, misnamed).understanding.column_of("event_type") == "Vorgang"
    channels = "user_id,sku,ts,Kanal\nu,i,2026-11-02,search\nu,i,2026-11-02,page\n"
    assert export_of(tmp_path, channels).understanding.column_of("event_type") == "event_type"


def test_a_session_is_offered_where_the_customer_is_empty(tmp_path: Path) -> None:
    export = export_of(tmp_path, GERMAN)
    survey = export.survey()
    assert questions(export, survey) == ["`Kunde` is empty in 1 row: --map Sitzung=anonymous_id?"]
    assert offered(export, survey) == {"Sitzung": "anonymous_id"}
    taken = export_of(tmp_path, GERMAN, None, Choices({"Sitzung": "anonymous_id"}))
    assert (questions(taken, taken.survey()), read(taken)[1]) == ([], [])
    assert read(taken)[0][2].visitor == "s2"
    declined = export_of(tmp_path, GERMAN, None, Choices({"Sitzung": "session_id"}))
    assert questions(declined, declined.survey()) == []


def test_times_and_prices_are_known_by_their_cells(tmp_path: Path) -> None:
    text = 'user_id,sku,wann,was,type\nu,4006381333931,2.11.2026 10:00,"5,00 €",view\n'
    assert dict(export_of(tmp_path, text).understanding.columns) == {
        "user_id": "user_id", "item_id": "sku", "timestamp": "wann", "price": "was",
        "event_type": "type",
    }  # fmt: skip
    two = "user_id,sku,wann,bis,type\nu,i,2.11.2026,3.11.2026,view\n"
    with pytest.raises(ImportFileError, match="--map wann=timestamp"):
        export_of(tmp_path, two)


def test_rows_of_orders_become_no_views(tmp_path: Path) -> None:
    text = "user_id,sku,ts,qty,type\nu,i,2026-11-02,2,\nu,i,2026-11-02,,\n"
    export = export_of(tmp_path, text)
    assert questions(export, export.survey()) == [
        "`type` is empty in 2 rows: --event-type purchase?"
    ]
    views = export_of(tmp_path, text, None, Choices(event_type="view"))
    (refused,) = questions(views, views.survey())
    assert refused.startswith("--event-type view makes views of 1 row with an order, a price or a")
    without = export_of(tmp_path, text, None, Choices({"qty": ""}, event_type="view"))
    assert questions(without, without.survey()) == []
    typed = "user_id,sku,ts,order_id,type\nu,i,2026-11-02,o1,blorb\n"
    export = export_of(tmp_path, typed)
    assert "--type 'blorb=purchase'" in questions(export, export.survey())[0]
    chosen = export_of(tmp_path, typed, None, Choices(types={"blorb": "view"}))
    assert questions(chosen, chosen.survey())[0].startswith("--type blorb=view makes views")


def test_a_column_empty_in_the_first_rows_takes_no_field_from_another(tmp_path: Path) -> None:
    text = "customer_id,Kunde,Device ID,sku,ts,type\n,k1,,i,2026-11-02,view\n"
    columns = export_of(tmp_path, text).understanding.columns
    assert (columns["user_id"], columns["anonymous_id"]) == ("Kunde", "Device ID")


def test_a_few_numbers_in_a_column_of_times_are_told_as_few(tmp_path: Path) -> None:
    rows = "".join(f"u,i,view,2026-11-{n:02}T10:00Z\n" for n in range(1, 10))
    export = export_of(tmp_path, f"user_id,item_id,event_type,ts\n{rows}u,i,view,1790000000\n")
    assert export.understanding.notes == (
        "`ts` is in seconds since 1970 in 1 of 10 rows; --time-unit names another unit",
    )


def surveyed(path: Path, text: str, columns: dict[str, str] | None = None) -> tuple[Export, Survey]:
    path.mkdir()
    export = export_of(path, text, choices=Choices(columns or {}))
    return export, export.survey()


@pytest.mark.parametrize(
    ("events", "items", "column"),
    [
        ("sku\nred\nblue\nred", "sku,handle\n1,red\n2,blue\n3,x", "handle"),
        ("sku,article\n7,1\n8,2\n9,1", "sku,handle\n1,red\n2,blue", "article"),
        ("sku\n7\n8\n9", "sku,handle\n1,red\n2,blue", ""),
        ("sku\n1\n7\n1", "sku,handle\n1,red\n2,7", None),
    ],
)
def test_ids_that_name_nothing_lead_to_the_column_that_has_them(
    tmp_path: Path, events: str, items: str, column: str | None
) -> None:
    header, *rows = events.split("\n")
    text = "\n".join(f"u,view,2026-11-02,{row}" for row in rows)
    file = surveyed(tmp_path / "events", f"user_id,type,ts,{header}\n{text}\n")
    found = foreign_ids([surveyed(tmp_path / "items", f"{items}\n"), file])
    assert (found and found.column) == column
    if column == "":
        assert str(found) == "3 of the 3 items of the events have no entry"


def test_without_a_file_of_items_those_of_the_stack_tell(tmp_path: Path) -> None:
    text = "user_id,sku,article,type,ts\nu,1,red,view,2026-11-02\nu,2,blue,view,2026-11-02\n"
    file = surveyed(tmp_path / "events", text)
    found = foreign_ids([file], ["red", "blue", "green"])
    assert found is not None and found.column == "article"
    assert foreign_ids([file], ["1", "x"]) is foreign_ids([file]) is None


def order(number: int, status: str) -> dict[str, Any]:
    line = {"item_id": number, "sku": f"S-{number}", "product_id": 10 + number}
    return {
        "increment_id": f"00{number}", "customer_id": number, "status": status,
        "created_at": "2026-11-02 10:00:00",
        "items": [line | {"price": 9.5, "qty_ordered": 2}],
    }  # fmt: skip


def test_a_cancelled_order_is_asked_about(tmp_path: Path) -> None:
    page = {"items": [order(1, "complete"), order(2, "canceled")], "total_count": 2}
    text = orjson.dumps(page | {"search_criteria": {"filter_groups": []}}).decode()
    export = export_of(tmp_path, text, choices=Choices(event_type="purchase"))
    (question,) = questions(export, export.survey())
    assert question.startswith("`status` has unknown types: 'canceled' (1): --type 'canceled=rem")
    choices = Choices(event_type="purchase", types={"canceled": "skip"})
    export = export_of(tmp_path, text, choices=choices)
    (event,), rejected = read(export)
    assert (rejected, questions(export, export.survey()), event.event_type) == ([], [], "purchase")
    properties = event.call["properties"]
    assert (properties["item_id"], properties["order_line"]) == ("11", "1")
    assert (properties["order_id"], properties["quantity"]) == ("001", 2)


def test_amplitudes_events_name_the_item_in_their_properties(tmp_path: Path) -> None:
    event = {
        "user_id": "u", "event_type": "view item", "event_time": "2026-11-02 10:00:00.000000",
        "$insert_id": "i-1", "event_properties": {"product_id": "p", "price": 3.5},
    }  # fmt: skip
    export = export_of(tmp_path, orjson.dumps(event).decode() + "\n")
    (viewed,), rejected = read(export)
    assert (rejected, viewed.event_type, viewed.identity) == ([], "view", ("event", "i-1"))
    assert (viewed.call["properties"]["item_id"], viewed.call["properties"]["price"]) == ("p", 3.5)
