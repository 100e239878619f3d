"""Retrievers of a bundle, except its network: fitted, and their parameters tuned before.

Tuning compares validation queries, one parameter at a time.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Dense, InteractionLog, Retriever
from slipstream.models.ease import EaseParameters, fit_ease, item_gram, solve
from slipstream.models.neighbours import HistoryWeighting, ItemToItem, revisits
from slipstream.models.popularity import fit_popularity
from slipstream.models.rules import RulesParameters, fit_rules
from slipstream.models.sessions import SessionsParameters, fit_sessions
from slipstream.recommender.encoding import Query

Parameters = TypeVar("Parameters", bound=Any)
Step = tuple[str, Sequence[Any]]

# With fewer validation queries, defaults are better than a choice by chance.
FEWEST_QUERIES = 30
# Most items that EASE's λ is chosen on. λ counts visitors, not items, so it suits a larger inverse.
_DENSEST_ITEMS = 4_000

_SCORES_AT_ONCE = 5_000_000
_HISTORIES_AT_ONCE = 256


@dataclass(frozen=True)
class RetrieverParameters:
    """Parameters that the retrievers are fitted with, the network's apart."""

    popularity_half_life_ms: float | None = None
    rules: RulesParameters = field(default_factory=RulesParameters)
    ease: EaseParameters = field(default_factory=EaseParameters)
    sessions: SessionsParameters = field(default_factory=SessionsParameters)

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """The parameters in a manifest, which has them as `dataclasses.asdict` makes them.

        Other entries are left out.
        """

        def unpacked(values: Mapping[str, Any]) -> dict[str, Any]:
            return {**values, "weighting": HistoryWeighting(**values["weighting"])}

        return cls(
            parameters["popularity_half_life_ms"],
            RulesParameters(**unpacked(parameters["rules"])),
            EaseParameters(**unpacked(parameters["ease"])),
            SessionsParameters(**parameters["sessions"]),
        )


def tune(
    log: InteractionLog, validation: Sequence[Query], start: RetrieverParameters, *, repeats: bool
) -> RetrieverParameters:
    """The parameters under which the validation items rank best. Of fewer than `FEWEST_QUERIES`
    validation queries it returns `start`. The log is earlier than they are.
    """
    if len(validation) < FEWEST_QUERIES or not len(log):
        return start

    def quality(retriever: Dense) -> float:
        return mean_gain(retriever, validation, repeats=repeats)

    def popular(half_life: float | None) -> float:
        share = np.tile(fit_popularity(log, half_life).share, (len(queries), 1))
        return float((1 / np.log2(ranks(share, queries, repeats=repeats) + 2)).mean())

    span = float(np.ptp(log.timestamp))
    half_lives = [None, *(span / part for part in (4, 16, 64, 256) if span > 0)]
    queries = validation[:: -(-len(validation) // max(1, _SCORES_AT_ONCE // log.n_items))]
    popularity = max(half_lives, key=popular)
    return RetrieverParameters(
        popularity,
        tune_rules(log, quality, start.rules),
        tune_ease(log, quality, start.ease),
        tune_sessions(log, quality, start.sessions),
    )


def tune_rules(
    log: InteractionLog, quality: Callable[[Dense], float], start: RulesParameters
) -> RulesParameters:
    """The parameters of rules with the highest quality."""
    same_user = log.user[1:] == log.user[:-1]
    gaps = np.diff(log.timestamp)[same_user]
    gaps = gaps[gaps > 0]
    half_lives = (
        [10 * float(gap) for gap in np.unique(np.quantile(gaps, [0.5, 0.75, 0.9]))]
        if len(gaps)
        else []
    )
    steps: list[Step] = [
        ("weighting.position_exponent", (2.0,)),
        ("backward", (0.3, 0.6)),
        ("popularity_exponent", (0.2, 0.4)),
        ("distance_exponent", (0.5, 1.5)),
        ("window", (30, 3)),
        ("half_life_ms", half_lives),
        ("weighting.position_exponent", (0.5, 0.75, 1.5)),
        ("weighting.half_life_ms", half_lives),
    ]
    counted: dict[RulesParameters, ItemToItem] = {}

    def fitted(parameters: RulesParameters) -> ItemToItem:
        """The rules do not depend on how a history will be weighted."""
        key = replace(parameters, weighting=start.weighting)
        if key not in counted:
            counted.clear()
            counted[key] = fit_rules(log, key)
        return replace(counted[key], weighting=parameters.weighting)

    return coordinate_search(start, steps, lambda parameters: quality(fitted(parameters)))


def tune_ease(
    log: InteractionLog, quality: Callable[[Dense], float], start: EaseParameters
) -> EaseParameters:
    """The parameters of EASE with the highest quality."""
    chosen, gram = item_gram(log, min(start.max_items, _DENSEST_ITEMS))
    solved: dict[float, ItemToItem] = {}

    def fitted(parameters: EaseParameters) -> ItemToItem:
        """The inverse depends on λ alone."""
        if parameters.regularisation not in solved:
            solved[parameters.regularisation] = solve(chosen, gram, log.n_items, parameters)
        return replace(solved[parameters.regularisation], weighting=parameters.weighting)

    steps: list[Step] = [
        ("regularisation", (500.0,)),
        ("weighting.position_exponent", (0.25, 0.75, 1.0, 1.5)),
        ("regularisation", (50.0, 200.0, 1_000.0)),
    ]
    return coordinate_search(start, steps, lambda parameters: quality(fitted(parameters)))


def tune_sessions(
    log: InteractionLog, quality: Callable[[Dense], float], start: SessionsParameters
) -> SessionsParameters:
    """The parameters of session neighbours with the highest quality."""
    fitted = fit_sessions(log, start)
    steps: list[Step] = [
        ("backward", (1.0, 0.2)),
        ("distance_decay", (0.9, 0.5)),
        ("half_life", (0.3, 0.1)),
        ("position_decay", (0.5, 0.85)),
        ("length_exponent", (0.0, 1.0)),
        ("rarity", (0.0, 0.4)),
        ("neighbours", (100, 400)),
    ]
    return coordinate_search(
        start, steps, lambda parameters: quality(replace(fitted, own=parameters))
    )


def coordinate_search(
    start: Parameters, steps: Sequence[Step], objective: Callable[[Parameters], float]
) -> Parameters:
    """The best parameters after trying each step's values in turn. `start` is a dataclass; a dot in
    a step's name reaches into a nested one. Of the objective, higher is better.
    """
    best, best_quality = start, objective(start)
    for name, values in steps:
        origin = best
        for value in values:
            candidate = with_value(origin, name, value)
            if candidate != origin and (quality := objective(candidate)) > best_quality:
                best, best_quality = candidate, quality
    return best


def with_value(parameters: Parameters, name: str, value: Any) -> Parameters:
    """The parameters with another value; a dot in the name reaches into a nested dataclass."""
    head, _, rest = name.partition(".")
    return replace(
        parameters, **{head: with_value(getattr(parameters, head), rest, value) if rest else value}
    )


def mean_gain(retriever: Dense, validation: Sequence[Query], *, repeats: bool) -> float:
    """The mean of 1 / log2(rank + 2) of the next item among all items.

    This is NDCG without a cut-off, which varies less. Items of equal score share their mean rank;
    an item that the retriever does not score has score 0. Without `repeats`, items of the history
    do not compete.
    """
    batch = min(_HISTORIES_AT_ONCE, max(1, _SCORES_AT_ONCE // max(retriever.n_items, 1)))
    total = 0.0
    for begin in range(0, len(validation), batch):
        queries = validation[begin : begin + batch]
        scores = retriever.score_all([query.history for query in queries])
        total += float((1 / np.log2(ranks(scores, queries, repeats=repeats) + 2)).sum())
    return total / len(validation)


def ranks(
    scores: NDArray[np.float32], queries: Sequence[Query], *, repeats: bool
) -> NDArray[np.float64]:
    """The mean rank of each query's label in its row of `scores`, which is overwritten."""
    rows, labels = np.arange(len(queries)), np.array([query.label for query in queries])
    of_label = scores[rows, labels]
    if not repeats:
        lengths = [len(query.history.item) for query in queries]
        items = np.concatenate([query.history.item for query in queries])
        scores[np.repeat(rows, lengths), items] = -np.inf
        scores[rows, labels] = of_label
    return np.array(
        [
            np.count_nonzero(row > own) + (np.count_nonzero(row == own) - 1) / 2
            for row, own in zip(scores, of_label, strict=True)
        ]
    )


def fit_retrievers(
    log: InteractionLog,
    parameters: RetrieverParameters,
    content: Retriever | None,
    *,
    repeats: bool,
    names: Collection[str] = ("popularity", "rules", "sessions", "ease", "content", "revisits"),
) -> dict[str, Retriever]:
    """The fitted retrievers of these names, in a fixed order. `content` does not depend on events;
    None where no item has attributes. Without `repeats` there is no retriever of revisits.
    """
    fits: dict[str, Callable[[], Retriever | None]] = {
        "popularity": lambda: fit_popularity(log, parameters.popularity_half_life_ms),
        "rules": lambda: fit_rules(log, parameters.rules),
        "sessions": lambda: fit_sessions(log, parameters.sessions),
        "ease": lambda: fit_ease(log, parameters.ease),
        "content": lambda: content,
        "revisits": lambda: revisits(log.n_items) if repeats else None,
    }
    fitted = {name: fit() for name, fit in fits.items() if name in names}
    return {name: retriever for name, retriever in fitted.items() if retriever is not None}
