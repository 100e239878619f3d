from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.models import content
from slipstream.models.content import fit_content_index, fit_terms
from slipstream.models.content_index import ContentIndex, described, hashes, terms

SHIRTS = [
    {"colour": "mauve", "kind": "shirt"},
    {"colour": "blue", "kind": "shirt"},
    {"colour": "blue", "kind": "trousers"},
]


def index_of(
    attributes: Sequence[Mapping[str, object]], counts: list[int] | None = None
) -> ContentIndex:
    index = fit_content_index(attributes, np.array(counts or [1] * len(attributes)))
    assert index is not None
    return index


def test_items_that_share_rare_attributes_are_nearest() -> None:
    near = index_of(SHIRTS).neighbours({"colour": "mauve", "kind": "shirt", "new": "word"}, 5)
    assert near.items.tolist()[:2] == [0, 1]
    assert np.all(np.diff(near.likeness) <= 0)


def test_items_that_nobody_has_met_lend_nothing() -> None:
    near = index_of(SHIRTS, [0, 3, 1]).neighbours({"colour": "mauve", "kind": "shirt"}, 5)
    assert near.items.tolist() == [1]


@pytest.mark.parametrize("attributes", [{}, {"colour": "green"}, {"colour": None}])
def test_item_that_shares_no_term_has_no_neighbours(attributes: dict[str, object]) -> None:
    assert len(index_of(SHIRTS).neighbours(attributes, 5).items) == 0


def test_catalogue_without_terms_has_no_index() -> None:
    assert fit_content_index([{}, {"title": None}], np.array([1, 1])) is None
    assert fit_content_index(SHIRTS, np.zeros(3)) is None


def test_of_a_common_term_the_most_popular_items_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content, "MOST_LISTED", 3)
    index = index_of([{"kind": "shirt"}] * 9, [1, 9, 2, 8, 3, 7, 4, 6, 5])
    assert sorted(index.neighbours({"kind": "shirt"}, 9).items.tolist()) == [1, 3, 5]


def test_each_attribute_counts_the_same() -> None:
    known = [
        {"title": "the long sleep of grey wolves", "genre": "western"},
        {"title": "rio", "genre": "comedy"},
        {"title": "up", "genre": "comedy"},
    ]
    near = index_of(known).neighbours({"title": "sleep of wolves", "genre": "comedy"}, 3)
    assert sorted(near.items.tolist()) == [0, 1, 2]
    assert near.likeness.tolist() == pytest.approx([0.5, 0.5, 0.33], abs=0.1)


VALUES = st.lists(st.sampled_from(["red", "green", "blue", "red shirt"]), max_size=3)
DESCRIBED = st.fixed_dictionaries({"colours": VALUES, "others": VALUES})


@settings(max_examples=30, deadline=None)
@given(st.lists(DESCRIBED, min_size=1, max_size=8))
def test_likeness_is_the_mean_of_the_attributes_cosines(
    described: list[dict[str, object]],
) -> None:
    single = [{name: value} for entry in described for name, value in entry.items()]
    found = fit_terms(single)
    if found is None:
        return
    vectors = found.vectors.toarray().reshape(len(described), 2, -1)
    index = index_of(described)
    for own, entry in zip(vectors, described, strict=True):
        near = index.neighbours(entry, len(described))
        attributes = max(1, np.count_nonzero(own.any(axis=1)))
        whole = np.einsum("at,ibt->i", own, vectors) / attributes
        assert near.likeness == pytest.approx(whole[near.items], abs=4e-3)
        assert set(near.items.tolist()) == set(np.flatnonzero(whole).tolist())


def test_an_items_vector_is_that_of_its_terms_by_their_weights() -> None:
    entries = [*SHIRTS, {"title": "blue shirt shirt", "kind": "shirt"}]
    found = fit_terms(entries)
    assert found is not None
    vectors = np.random.default_rng(0).normal(size=(len(found.names), 4)).astype(np.float32)
    order = np.argsort(hashed := hashes(found.names))
    known = hashed[order], found.rarities[order], vectors[order]
    for entry, weights in zip(entries, found.vectors.toarray(), strict=True):
        more = {**entry, "unheard": "of"}
        np.testing.assert_allclose(described(*known, more), weights @ vectors, rtol=1e-5)
    assert described(*known, {"unheard": "of"}).tolist() == [0] * 4


def test_terms_are_attribute_values_and_words_of_texts() -> None:
    found = list(
        terms({"title": "Toy Story", "categories": ["Comedy", None], "year": 1995, "price": None})
    )
    assert found == ["title=toy story", "toy", "story", "categories=comedy", "year=1995"]
