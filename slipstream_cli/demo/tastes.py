"""The demo's visitors: some of plainly different taste, chosen by the films that they watched."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# Number of latest films that a taste is computed from; fewer say too little.
RECENT = 40


@dataclass(frozen=True)
class DemoVisitor:
    """A visitor of the demo.

    Attributes:
        user_id: The visitor.
        watched: Item ids of the films watched, newest first.
        likes: Genres that the visitor watches more than others do.
    """

    user_id: str
    watched: list[str]
    likes: list[str]


def contrasting_visitors(
    interactions: pa.Table, items: pa.Table, count: int = 3
) -> list[DemoVisitor]:
    """Choose `count` visitors whose recent films differ most in genre; the same for the same files.

    A taste is the share of each genre among the last 40 films, less its share among everybody's.
    The first visitor has the longest such vector. Each next one is the farthest from the nearest of
    those chosen.
    """
    genres = sorted({genre for row in items["categories"].to_pylist() for genre in row})
    kinds = {row["item_id"]: _shares(row["categories"], genres) for row in items.to_pylist()}
    watched: dict[str, list[str]] = {}
    # Films of the same second are ordered by id, so that the file's order does not matter.
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
    """Choose films of other visitors' lists that the visitor does not know.

    Args:
        visitor: The visitor.
        known: Item ids of films that the visitor knows.
        slates: The recommendations of other visitors.

    Returns:
        The films, those with the fewest genres that the visitor likes first.
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
