"""Content neighbours: items with similar texts and attributes, however few have met them.

G. Salton, C. Buckley, "Term-weighting approaches in automatic text retrieval", Information
Processing & Management 24, 1988 (TF-IDF, cosine); P. Lops, M. de Gemmis, G. Semeraro,
"Content-based Recommender Systems", 2011. Each attribute value is one term ("colour=blue"), each
word of a free text another.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.models.content_index import MOST_LISTED, MOST_TERMS, ContentIndex, hashes, terms
from slipstream.models.neighbours import HistoryWeighting, ItemToItem

if TYPE_CHECKING:
    from scipy import sparse

NEIGHBOURS = 50
_ROWS_AT_ONCE = 1_024
# Of more items than the former, what more than the latter have in common does not make alike:
# comparing them all takes too long.
_FEW, _COMMONEST = 20_000, 2_000
_WEIGHTING = HistoryWeighting(position_exponent=0.5, max_events=20)


def fit_content(
    attributes: Sequence[Mapping[str, Any]], neighbours: int = NEIGHBOURS
) -> ItemToItem:
    """Fit the `neighbours` items of greatest cosine for each item.

    `attributes` has one mapping for each item of the catalogue. An item without attributes has no
    neighbours. The cost is items^2 x shared terms, in blocks of rows.
    """
    from scipy import sparse

    size = len(attributes)
    found = fit_terms(attributes, commonest=size if size <= _FEW else _COMMONEST)
    if found is None:
        return ItemToItem.of(sparse.csr_array((size, size), dtype=np.float32), _WEIGHTING)
    vectors = found.vectors
    columns = vectors.T.tocsr()
    data, indices, lengths = [], [], np.zeros(size, np.int64)
    for begin in range(0, size, _ROWS_AT_ONCE):
        block = (vectors[begin : begin + _ROWS_AT_ONCE] @ columns).tocsr()
        for row in range(block.shape[0]):
            span = slice(block.indptr[row], block.indptr[row + 1])
            alike, cosine = block.indices[span], block.data[span]
            other = alike != begin + row
            alike, cosine = alike[other], cosine[other]
            if len(alike) > neighbours:
                best = np.argpartition(-cosine, neighbours - 1)[:neighbours]
                alike, cosine = alike[best], cosine[best]
            order = np.argsort(alike)
            indices.append(alike[order])
            data.append(cosine[order])
            lengths[begin + row] = len(alike)
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    matrix = sparse.csr_array(
        (np.concatenate(data), np.concatenate(indices), indptr), shape=(size, size)
    )
    return ItemToItem.of(matrix, _WEIGHTING)


def fit_content_index(
    attributes: Sequence[Mapping[str, Any]], counts: NDArray[Any]
) -> ContentIndex | None:
    """The index of the items that somebody has met; None where they have no terms. `counts` has the
    number of events of each item.
    """
    from scipy import sparse

    by_popularity = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    described = [attributes[item] for item in by_popularity.tolist()]
    # An attribute is a text of its own, with a vector of length 1.
    single = ({name: value} for entry in described for name, value in entry.items())
    found = fit_terms(single, most=MOST_TERMS)
    if found is None:
        return None
    until = np.cumsum([0, *map(len, described)])
    of_item = sparse.csr_array((np.ones(until[-1], np.float32), np.arange(until[-1]), until))
    columns = sparse.csc_array(of_item @ found.vectors)
    order = np.argsort(hashed := hashes(found.names))
    begins, lengths = columns.indptr[order], np.diff(columns.indptr)[order]
    kept = np.minimum(lengths, MOST_LISTED)
    ends = np.cumsum(kept)
    places = np.arange(ends[-1]) + np.repeat(begins - (ends - kept), kept)
    return ContentIndex(
        hashed[order],
        found.rarities[order].astype(np.float32),
        ends.astype(np.int64),
        by_popularity[columns.indices[places]].astype(np.int32),
        columns.data[places].astype(np.float16),
    )


class FittedTerms(NamedTuple):
    """Terms of a catalogue.

    Attributes:
        rarities: Inverse document frequency of each.
        vectors: TF-IDF weights (items, terms), rows of length 1.
    """

    names: Sequence[str]
    rarities: NDArray[np.float32]
    vectors: "sparse.csr_array[Any, Any]"


def fit_terms(
    attributes: Iterable[Mapping[str, Any]],
    rarest: int = 1,
    most: int | None = None,
    commonest: int | None = None,
) -> FittedTerms | None:
    """The terms of a catalogue and their weights in each item; None without any term. `rarest` and
    `commonest` bound the number of items with a term.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer=lambda entry: list(terms(entry)),
        dtype=np.float32,
        sublinear_tf=True,
        min_df=rarest,
        max_features=most,
        max_df=commonest or 1.0,
    )
    try:
        vectors = sparse.csr_array(vectorizer.fit_transform(attributes))
    except ValueError:  # its word for no terms at all, or none that so many items have
        return None
    return FittedTerms(vectorizer.get_feature_names_out().tolist(), vectorizer.idf_, vectors)
