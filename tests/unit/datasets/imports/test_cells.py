"""Cells as exports spell them. What is rendered in one of their forms reads back the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.datasets.imports import cells
from slipstream.datasets.imports.cells import CellError, read_amount

AMOUNTS = st.integers(-(10**9), 10**9)


@given(AMOUNTS, st.sampled_from(["EUR {}", "{} EUR", "{}€", "€ {}", "{}", " {} "]))
def test_amounts_read_back_with_either_mark_and_any_currency(cents: int, around: str) -> None:
    number = cents / 100
    english, continental = f"{number:,.2f}", f"{number:,.2f}".translate(str.maketrans(".,", ",."))
    for digits in (english, continental, english.replace(",", "'"), f"{number:.2f}"):
        found = read_amount(around.format(digits))
        assert found.number == number
        assert found.currency == ("EUR" if around.strip() != "{}" else "")


@pytest.mark.parametrize(
    ("text", "mark", "number", "currency"),
    [
        ("1,299", ".", 1299, ""), ("1,299", ",", 1.299, ""), ("1.299", ".", 1.299, ""),
        ("12,90-", ".", -12.9, ""), ("(12.90)", ".", -12.9, ""), ("-$5", ".", -5, "USD"),
        ("$-5", ".", -5, "USD"), ("1 299,00 kr", ".", 1299, "KR"), ("0,125", ".", 0.125, ""),
        ("1.299.000", ".", 1_299_000, ""), ("CHF 5.-", ".", 5, "CHF"), ("1e-3", ".", 0.001, ""),
    ],
)  # fmt: skip
def test_amounts_of_exports(text: str, mark: str, number: float, currency: str) -> None:
    assert read_amount(text, mark) == (pytest.approx(number), currency)


@pytest.mark.parametrize("value", ["n/a", "12 or 13", "abc", "1,2,3.4.5", True, [], "nan", "1_000"])
def test_what_is_no_number_is_told(value: object) -> None:
    with pytest.raises(CellError, match="number"):
        read_amount(value)


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ("1", True), (0, False), ("Ja", True), ("no", False), ("in stock", True),
        ("out_of_stock", False), ("https://schema.org/InStock", True), ("Ausverkauft", False),
        (True, True),
    ],
)  # fmt: skip
def test_flags(value: object, flag: bool) -> None:
    assert cells.read_flag(value) is flag


def test_a_flag_that_is_none_is_told() -> None:
    with pytest.raises(CellError, match="'maybe' is neither true nor false"):
        cells.read_flag("maybe")


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1)))
def test_lists_read_back_as_json_and_with_pipes(texts: list[str]) -> None:
    import json

    assert cells.read_list(json.dumps(texts)) == texts
    assert cells.read_list("|".join(texts)) == texts
    assert cells.read_list(texts) == texts


def test_a_path_of_categories_is_a_list_of_them() -> None:
    assert cells.read_list("Home > Women > Dresses") == ["Home", "Women", "Dresses"]
    assert cells.read_list("A->B") == ["A->B"]


def test_ids_are_texts() -> None:
    assert [cells.read_id(value) for value in (7, 7.0, " 007 ")] == ["7", "7", "007"]
    for wrong in (7.5, "x" * 300, "a\0b", True):
        with pytest.raises(CellError):
            cells.read_id(wrong)


@pytest.mark.parametrize("value", [None, "", "  ", "NULL", "n/a", float("nan"), "\\N"])
def test_missing_cells(value: object) -> None:
    assert cells.is_missing(value)
