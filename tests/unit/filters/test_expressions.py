"""Filter expressions: their conditions, and errors that say where."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.filters.conditions import (
    All,
    Any,
    Compared,
    Condition,
    Constant,
    Missing,
    Not,
    OneOf,
    Order,
    Own,
    Present,
    SharedWith,
)
from slipstream.filters.expressions import LONGEST, FilterError, parsed
from tests.unit.filters.random_conditions import catalogues, conditions, holds, owns, written

SHOES = OneOf("category", frozenset({"shoes"}))


@pytest.mark.parametrize(
    ("expression", "condition"),
    [
        (
            'category == "shoes" and price < 100 and brand not in seen',
            All((SHOES, Compared("price", Order.LESS, 100.0), Not(SharedWith("brand", Own.SEEN)))),
        ),
        (
            "10 <= price < 20.5",
            All((Compared("price", Order.AT_LEAST, 10.0), Compared("price", Order.LESS, 20.5))),
        ),
        ('"shoes" == category', SHOES),
        ('"shoes" in category', SHOES),
        ("category in [\"shoes\", 'boots']", OneOf("category", frozenset({"shoes", "boots"}))),
        ("size in (42, 43)", OneOf("size", frozenset({42.0, 43.0}))),
        ('category != "shoes"', Not(SHOES)),
        ("in_stock", Present("in_stock")),
        ("in_stock == true", OneOf("in_stock", frozenset({1.0}))),
        ("price is not None", Not(Missing("price"))),
        (
            "price == null or price in [null, -1]",
            Any((Missing("price"), Any((OneOf("price", frozenset({-1.0})), Missing("price"))))),
        ),
        ('item["Shoe size"] > 40', Compared("Shoe size", Order.MORE, 40.0)),
        ('item_id not in ["a"]', Not(OneOf("item_id", frozenset({"a"})))),
        ("item_id in bought", SharedWith("item_id", Own.BOUGHT)),
        ("not (true)", Not(Constant(True))),
        ("\n  category ==\n  'shoes'\n", SHOES),
        ('größe == "XL"', OneOf("größe", frozenset({"XL"}))),
        ("published_at > now - 14d", Compared("published_at", Order.MORE, -14.0 * DAY_MS, True)),
        ("now + 1.5h >= ends_at", Compared("ends_at", Order.AT_MOST, 1.5 * HOUR_MS, True)),
        ("starts_at < now", Compared("starts_at", Order.LESS, 0.0, True)),
        ("age_days < 14", Compared("published_at", Order.MORE, -14.0 * DAY_MS, True)),
        ("seen_at > '1970-01-02'", Compared("seen_at", Order.MORE, float(DAY_MS))),
        ('sole in ["a 14d", "2w"]', OneOf("sole", frozenset({"a 14d", "2w"}))),
        ('item["now"] < 3', Compared("now", Order.LESS, 3.0)),
    ],
)
def test_an_expression_states_a_condition(expression: str, condition: Condition) -> None:
    assert parsed(expression) == condition


@pytest.mark.parametrize(
    ("expression", "position", "words"),
    [
        ('category == "shoes" and', 23, "invalid syntax"),
        ("price <", 7, "invalid syntax"),
        ('  category = "shoes"', 11, "=="),
        ('category == "shoes" && price < 3', 21, "`and`"),
        ("", 0, "invalid syntax"),
        ('price < "x"', 8, "only numbers and times have an order"),
        ('größe == "ü" and price < "x"', 25, "only numbers and times have an order"),
        ("price < cost", 8, "the other a value"),
        ("1 < 2", 4, "the other a value"),
        ("brand in seen_before", 9, "`seen` or `bought`"),
        ("seen == 3", 0, "comes after `in`"),
        ('title == "x"', 0, "filter by item_id"),
        ("price < 2 + 3", 8, "`2 + 3` is no value"),
        ("__import__('os').system('true')", 0, "is no condition"),
        ("price.real < 3", 0, "is no value"),
        ("price if price else cost", 0, "is no condition"),
        ("[price for price in seen]", 0, "is no condition"),
        ('item[0] == "x"', 0, 'item["any name"]'),
        ('f"{price}" == brand', 0, "is no value"),
        ("price < 1e999 and (lambda: 1)", 19, "is no condition"),
        ("price < 1" + "0" * 400, 8, "too large"),
        ("price < 1j", 8, "comes after now"),
        ("a > now - 14d and b > 3h", 22, "comes after now"),
        ("a > now - 14j", 10, "s, m, h, d or w"),
        ("a > now - 14", 10, "comes after now"),
        ("a == now", 5, "compared by <"),
        ("age_days == 3", 12, "compared by <"),
        ("now > 3", 6, "is an attribute"),
        ('b"x" == brand', 0, "is no value"),
        (" or ".join(["a"] * 300), 995, "at most 200 parts"),
        ("x" * (LONGEST + 1), LONGEST, "characters"),
        ("(" * 500, 200, "parentheses"),
    ],
)
def test_an_error_says_what_and_where(expression: str, position: int, words: str) -> None:
    with pytest.raises(FilterError, match=None) as caught:
        parsed(expression)
    assert words in str(caught.value)
    assert caught.value.position == position


def test_an_expression_of_a_context_knows_no_items_of_a_visitor() -> None:
    expression = 'device == "phone" and region not in seen'
    with pytest.raises(FilterError) as caught:
        parsed(expression, of_context=True)
    assert caught.value.position == expression.index("seen")
    assert parsed('device == "phone"', of_context=True) == parsed('device == "phone"')


@settings(max_examples=300)
@given(conditions, catalogues, owns)
def test_what_is_written_is_read_with_the_same_meaning(
    condition: Condition, catalogue: dict[str, dict[str, object]], own: dict[Own, list[str]]
) -> None:
    read = parsed(written(condition))
    for item_id in (*catalogue, "unknown"):
        meant = holds(condition, item_id, catalogue, own)
        assert holds(read, item_id, catalogue, own) == meant


def test_what_the_page_shows_can_be_written() -> None:
    page = (Path(__file__).parents[3] / "docs" / "filters.md").read_text("utf-8")
    table = page.partition("| means |\n")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[1:-1]]
    shown = [expression for cell in cells for expression in re.findall(r"`([^`]+)`", cell)]
    assert len(shown) > 12
    assert all(parsed(expression) for expression in shown)


@settings(max_examples=500)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="()[]{}'\"\\,.:=<>!&|not andrise1e9-+*\n\x00é", max_size=60),
    )
)
@example("\x00")
@example("\ud800 == 1")
@example("not " * 499)
@example("-" * 1_999 + "1")
@example("[" * 150 + "]" * 150)
def test_no_text_does_anything_but_state_a_condition_or_be_refused(text: str) -> None:
    try:
        parsed(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)
