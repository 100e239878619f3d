"""Bodies that clients may send to serving by mistake or on purpose."""

import gzip
from typing import Final

from hypothesis import strategies as st

INFER: Final = "/v2/models/recommender/infer"
# Any text, halves of surrogate pairs and control characters too.
any_text = st.text(st.characters(), max_size=12)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)
# What would cost most, were it read to its end.
WORST: Final = [
    b"",
    b"[" * 100_000,
    b'{"a":' * 5_000,
    b'{"inputs":[{"name":"user_id","shape":[1],"datatype":"BYTES","data":'
    + b"[" * 900
    + b"]" * 900
    + b',"x"' * 100_000
    + b"]}]}",
    b'{"inputs":[' + b"{}," * 150_000 + b"{}]}",
    b'{"events":[' + b'{"item_id":"a"},' * 1_001 + b'{"item_id":"a"}]}',
    b'{"user_id":"ada","items":[' + b'"a",' * 500_000 + b'"a"]}',
    b'{"user_id":"\\ud800","items":["\\udfff"]}',
    b'{"user_id":"ada","filter":"' + b"not " * 100_000 + b'a"}',
    b'{"user_id":"ada","filter":"' + b"-" * 1_999 + b'1"}',
    b"1e999",
    b"\xff\xfe{}",
    gzip.compress(b" " * 50_000_000, mtime=0),
]
# Filters, nearly.
words = st.sampled_from(
    [
        "price",
        "brand",
        "seen",
        "item_id",
        "'a'",
        "3",
        "[1,2]",
        "null",
        "(",
        ")",
        "not",
        "==",
        "and",
        "or",
        "in",
        "is",
        "<",
        ">=",
        ".",
        ",",
        "lambda",
        "**",
    ]
)
filters = st.lists(words, max_size=12).map(" ".join) | any_text
# Bodies with the fields of each route, and anything in them.
almost = {
    "/v1/sessions:recommend": st.fixed_dictionaries(
        {"events": st.lists(st.fixed_dictionaries({"item_id": any_text | any_json}), max_size=4)},
        optional={"n": any_json, "exclude": any_json, "anonymous_id": any_json, "filter": filters},
    ),
    "/v1/recommendations": st.fixed_dictionaries(
        {"user_id": st.sampled_from(["ada", "nobody"]), "filter": filters},
        optional={"n": any_json, "exclude": any_json},
    ),
    "/v1/rank": st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["ada", "nobody"]) | any_text | any_json,
            "items": st.lists(st.sampled_from(["item-05", "x"]) | any_text, max_size=6),
        },
        optional={"placement": any_json, "attributes": any_json},
    ),
    "/v1/recommendations:batch": st.fixed_dictionaries(
        {"user_ids": st.lists(any_text, max_size=5) | any_json},
        optional={"n": st.integers(-1, 110) | any_json, "filter": filters},
    ),
    "/v1/bought-together": st.fixed_dictionaries(
        {"items": st.lists(any_text, max_size=5) | any_json},
        optional={"user_id": any_text | any_json, "placement": any_text | any_json},
    ),
    INFER: st.fixed_dictionaries(
        {
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.just("user_id") | any_text,
                        "shape": st.lists(st.integers(-2, 3), max_size=3) | any_json,
                        "datatype": st.just("BYTES") | any_text,
                        "data": st.lists(any_text | any_json, max_size=3) | any_json,
                    },
                    optional={"parameters": any_json},
                ),
                min_size=1,
                max_size=2,
            )
        },
        optional={
            "id": any_json,
            "parameters": st.fixed_dictionaries({"n": any_json}) | any_json,
            "outputs": any_json,
        },
    ),
}
