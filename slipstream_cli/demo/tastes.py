"""Who is shown: visitors of plainly different taste, chosen by rule from what they watched."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# The taste of a visitor is told from so many films, the latest; fewer say too little.
RECENT = 40


@dataclass(frozen=True)
class DemoVisitor:
    """A visitor, the films watched, newest first, and the genres that set these apart from what
    everybody watches.
    """

    user_id: str
    watched: list[str]
    likes: list[str]


def contrasting_visitors(
    interactions: pa.Table, items: pa.Table, count: int = 3
) -> list[DemoVisitor]:
    """`count` visitors whose recent films differ most in genre, the most unusual taste first. The
    same files give the same ones.

    A taste is the share of each genre among the last 40 films, less its share among everybody's.
    The first visitor has the longest such vector; each next one is the farthest from the nearest of
    those chosen.
    """
    genres = sorted({genre for row in items["categories"].to_pylist() for genre in row})
    kinds = {row["item_id"]: _shares(row["categories"], genres) for row in items.to_pylist()}
    watched: dict[str, list[str]] = {}
    # A visitor's films of one second are in the order of their ids, so that the choice does not
    # hang on the file's order.
    columns = (interactions[name].to_pylist() for name in ("timestamp", "user_id", "item_id"))
    events = sorted(zip(*columns, strict=True))
    for _, user_id, item_id in reversed(events):
        watched.setdefault(user_id, []).append(item_id)
    users = sorted(user_id for user_id, films in watched.items() if len(films) >= RECENT)
    if len(users) < count:
        raise ValueError(
            f"{count} visitors with {RECENT} films each are needed, there are {len(users)}"
        )
    tastes = np.array(
        [np.mean([kinds[film] for film in watched[user_id][:RECENT]], axis=0) for user_id in users]
    )
    tastes -= tastes.mean(axis=0)
    chosen = [int(np.argmax(np.linalg.norm(tastes, axis=1)))]
    while len(chosen) < count:
        distances = np.min(
            [np.linalg.norm(tastes - tastes[index], axis=1) for index in chosen], axis=0
        )
        chosen.append(int(np.argmax(distances)))
    return [
        DemoVisitor(users[index], watched[users[index]], _marked(tastes[index], genres))
        for index in chosen
    ]


def films_of_another_kind(
    visitor: DemoVisitor, known: set[str], slates: list[list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The films that others are recommended (`slates`, their lists) and this visitor does not know
    (`known`, item ids), those with the fewest of the genres that the visitor likes first.
    """
    strange = [film for slate in slates for film in slate if film["item_id"] not in known]
    return sorted(
        strange, key=lambda film: len(set(film["attributes"]["categories"]) & set(visitor.likes))
    )


def _shares(categories: list[str], genres: list[str]) -> NDArray[np.float64]:
    vector = np.zeros(len(genres))
    for genre in categories:
        vector[genres.index(genre)] = 1 / len(categories)
    return vector


def _marked(taste: NDArray[np.float64], genres: list[str], most: int = 3) -> list[str]:
    return [
        genres[index] for index in np.argsort(-taste, kind="stable")[:most] if taste[index] > 0.02
    ]
