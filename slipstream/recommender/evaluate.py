"""Offline evaluation of a file: a bundle is fitted on one part, and predicts the other.

It predicts through the stages that serve, and the whole catalogue competes. The protocols are those
of `slipstream.recommender.protocols`. They count every visitor, as published figures do: scripted
ones, which a training run leaves out, are only counted.

Further fits, each without a part of what a shop sends, answer the same questions. Their items and
the catalogue stay. What is left out is missing from the events that models are fitted on, from the
histories, and from the items' attributes, as if it had never been sent.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.datasets.interactions import read_interactions, read_items, read_queries
from slipstream.evaluation.figures import COLD_EVENTS, LED_ON, Past, cohorts, figures
from slipstream.evaluation.metrics import Ranks, Values, coverage, hit_rate, mrr, ndcg
from slipstream.evaluation.significance import bootstrap_difference, bootstrap_mean
from slipstream.features.request import GAP_MS
from slipstream.models.base import EventWeights, Indices, InteractionLog
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.fit import FitOptions, fit_log
from slipstream.recommender.holdout import sample
from slipstream.recommender.memory import peak_memory_mb
from slipstream.recommender.predict import Answers, predict, question_of
from slipstream.recommender.profiles import PROFILES
from slipstream.recommender.protocols import (
    PROTOCOLS,
    Task,
    led_on,
    prefix_queries,
    task_of,
    without_items,
)
from slipstream.recommender.scripted import find_scripted

ATTRIBUTE = "attribute:"
ATTRIBUTES = "attributes"
LASTING_ID = "lasting-id"


@dataclass(frozen=True)
class Omission:
    """A part of the data that is left out.

    Attributes:
        event_types: Types of events.
        attributes: Attributes of items.
        lasting_id: The id by which a visitor is known again: each visit is a visitor of its own.
    """

    event_types: frozenset[str]
    attributes: frozenset[str]
    lasting_id: bool

    def described(self, attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The attributes of each item without those that are left out."""
        return {
            item_id: {name: value for name, value in entry.items() if name not in self.attributes}
            for item_id, entry in attributes.items()
        }


def parse_omission(
    text: str, event_types: Collection[str], attributes: Collection[str]
) -> Omission:
    """The part that a text names, such as `purchase`, `cart+purchase` or `attribute:brand`.

    Args:
        text: Names, separated by `+`: types of events, `attribute:` with an item's attribute,
            `attributes` for all of them, `lasting-id`.
        event_types: Types that the data has.
        attributes: Attributes that the data has.

    Raises:
        ValueError: The data has nothing of a name. The message lists the names.
    """
    known = [*sorted(event_types), *(f"{ATTRIBUTE}{name}" for name in sorted(attributes))]
    known += [ATTRIBUTES] * bool(attributes) + [LASTING_ID]
    names = {name.strip() for name in text.split("+")}
    if unknown := sorted(names.difference(known)):
        raise ValueError(f"there is no {unknown[0]!r} to leave out; there are {', '.join(known)}")
    chosen = {name.removeprefix(ATTRIBUTE) for name in names if name.startswith(ATTRIBUTE)}
    return Omission(
        frozenset(names & set(event_types)),
        frozenset(attributes) if ATTRIBUTES in names else frozenset(chosen),
        LASTING_ID in names,
    )


def withhold(
    task: Task,
    log: InteractionLog,
    interactions: pa.Table,
    item_ids: list[str],
    weights: EventWeights,
    omission: Omission,
) -> Task:
    """The task as it is without a part of the events; its queries ask for the same items.

    Args:
        task: The task of the whole data.
        log: The whole log.
        interactions: The table that the log encodes.
        item_ids: Item id of each item of the log.
        weights: Weights that the log was encoded with.
        omission: What is left out.

    Raises:
        ValueError: Nothing is left to fit on.
    """
    left_out = pa.array(sorted(omission.event_types), pa.string())
    sent = pc.invert(pc.is_in(interactions["event_type"], left_out))
    known = sent.to_numpy()[encoding.log_rows(interactions, item_ids, weights)]
    shown = log.impressions
    if omission.event_types:  # an item shown counts as taken by an event that was sent
        shown = encoding.encode(interactions.filter(sent), item_ids, weights).impressions
    users = visits(log) if omission.lasting_id else log.user
    kept = known[task.fitted]
    if not kept.any():
        raise ValueError("nothing is left to fit on")
    queries = task.queries
    if task.asked is not None:
        queries = encoding.queries(replace(log, user=users), task.asked, known)
    of_users = replace(task.log, user=users[task.fitted], impressions=shown)
    return replace(task, log=of_users, queries=queries).only(kept)


def compare(
    whole: Ranks,
    reduced: Ranks,
    masks: Mapping[str, NDArray[np.bool_]],
    measures: Mapping[str, Callable[[Ranks], Values]],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Means of the reduced data's answers by cohort, and their changes against the whole data's.

    Args:
        whole: Rank of each query's item by the model of the whole data.
        reduced: The same by the model of the reduced data.
        masks: Masks over the queries, by cohort.
        measures: Metrics by name.
        seed: Seed of the bootstrap.

    Returns:
        By cohort: `queries`, and for each metric `value` and `change` with its 95 % interval,
        paired on the queries.
    """
    compared: dict[str, dict[str, Any]] = {}
    for cohort, mask in masks.items():
        compared[cohort] = {"queries": int(mask.sum())}
        for name, measure in measures.items():
            after, before = measure(reduced[mask]), measure(whole[mask])
            change = bootstrap_difference(after, before, seed)._asdict()
            compared[cohort][name] = {"value": float(after.mean()), "change": change}
    return compared


def visits(log: InteractionLog) -> Indices:
    """The visit of each event, numbered from 0: half an hour without an event begins another."""
    begins = np.ones(len(log), np.bool_)
    begins[1:] = (np.diff(log.user) != 0) | (np.diff(log.timestamp) >= GAP_MS)
    return (np.cumsum(begins) - 1).astype(np.int32)


MOST_QUERIES = 100_000
# Length of the lists that hidden items are looked for in.
_DEEP = 50
_RANKING = {"hit_rate": hit_rate, "ndcg": ndcg, "mrr": mrr}


def evaluate(
    interactions_path: str | Path,
    protocol: str,
    items: str | Path | None = None,
    queries: str | Path | None = None,
    profile: str = "fast",
    ks: Sequence[int] = (10, 20),
    seed: int = 0,
    progress: Progress = lambda _: None,
    search_minutes: float = 0.0,
    last_days: float | None = None,
    without: Sequence[str] = (),
    cold: float = 0.0,
    cold_events: int = 0,
) -> dict[str, Any]:
    """Figures of a bundle that is fitted on one part of the file and predicts the other.

    The bundle knows the items that have events to fit on. All others are new to it, as in service.

    Args:
        interactions_path: File of interactions.
        protocol: One of `PROTOCOLS`.
        items: File of items, with their attributes.
        queries: File of queries, for next-click alone.
        profile: Name of the fit's effort.
        ks: Lengths of lists to measure.
        seed: Seed of the fit, of samples and of the bootstrap.
        progress: Gets each step.
        search_minutes: Part of the fit that searches the network's parameters, on validation alone.
        last_days: Days at the end that a time-split or discovery holds out, instead of a fifth of
            the events.
        without: Parts of the data to leave out, each in a fit of its own, as
            `slipstream.recommender.evaluate.parse_omission` reads them.
        cold: Share of the items that are drawn by the seed and hidden from the fit.
        cold_events: The first events of each hidden item that stay in the fit.

    Returns:
        One JSON value, which repeats the arguments and has:
        `metrics`: hit_rate, ndcg, mrr (means over queries, with 95 % bootstrap intervals) and
        coverage at each k.
        `cohorts`: For all queries, for those of new and of returning visitors, for cold items, and
        for `led_on` (a first event on an item that then went into the cart or was bought), the
        figures of a training run (`slipstream.evaluation.figures`, of lists of 10 or the longest
        k), with novelty, diversity and popularity bias.
        `without`: For each part that was left out and each cohort, the means of the same queries,
        and by how much each changed, paired on the queries, with the interval.
        `cold`: Where items are hidden, NDCG at each k and recall at 50 on them by the number of
        their events in the fit, and on the other items.
        `ablation`: The same means for each retriever `alone`, and for the blend `without` each,
        with the other exponents as they are; and how far the served lists are `ahead` of each
        retriever alone, in NDCG at the first k, paired on the queries, with the interval.
        `parameters`: Parameters that were chosen; `curve`: how the network learned, by epoch;
        `search`: trials of the search.
        `data`, `repeats`, `repurchases`, `seconds`, `peak_memory_mb`, `queries`: Circumstances. Of
        more than 100,000 queries a sample is asked. `data` has counts of the `scripted` visitors.

    Raises:
        ValueError: The protocol is unknown, a query file is missing or superfluous, or the file
            leaves nothing to predict.
        InteractionFileError: A file is not in the format.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    if (protocol == "next-click") != (queries is not None):
        raise ValueError("a query file is needed for next-click, and only for that")
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; there are {', '.join(PROFILES)}")
    if not ks or min(ks) < 1:
        raise ValueError("k must be at least 1")
    if last_days is not None and (protocol not in ("time-split", "discovery") or last_days <= 0):
        raise ValueError(
            "the last days to keep out are more than 0, and of a time-split or discovery only"
        )
    if not 0 <= cold < 1 or cold_events < 0 or (cold_events and not cold):
        raise ValueError("the share of hidden items is below 1, and events stay only of such items")
    progress(ProgressStep("reading", 0.0))
    interactions = read_interactions(interactions_path)
    item_table = read_items(items) if items is not None else None
    weights = EventWeights()
    item_ids = encoding.met_items(interactions, weights)
    log = encoding.encode(interactions, item_ids, weights)
    prefixes = list(prefix_queries(read_queries(queries), item_ids)) if queries is not None else []
    task = task_of(protocol, log, prefixes, profile, last_days)
    hidden = np.zeros(len(item_ids), np.bool_)
    if cold:
        drawn = np.random.default_rng(seed).permutation(len(item_ids))
        hidden[drawn[: round(cold * len(item_ids))]] = True
        task = without_items(task, hidden, cold_events)
    if not len(task.queries) or not len(task.log):
        raise ValueError(f"{interactions_path}: nothing to predict under {protocol}")

    others = set() if item_table is None else set(item_table["item_id"].to_pylist())
    others.difference_update(item_ids)
    attributes = encoding.attributes(item_table, [*item_ids, *others])
    named = item_table.drop_columns(["item_id"]).column_names if item_table is not None else []
    types = interactions["event_type"].unique().to_pylist()
    omissions = {text: parse_omission(text, types, named) for text in without}
    rows = sample(np.arange(len(task.queries)), MOST_QUERIES, seed)
    options = FitOptions(
        profile=profile, seed=seed, event_weights=weights, search_s=60 * search_minutes
    )
    exam = _Exam(item_ids, sorted(others), rows, max(ks), options)
    sat = exam.sit(task, attributes, progress)
    masks = _masks(task, rows, log)
    changes = {}
    for text, omission in omissions.items():
        reduced = withhold(task, log, interactions, item_ids, weights, omission)
        other = exam.sit(reduced, omission.described(attributes), progress, without=text)
        ranks = sat.answers.ranks, other.answers.ranks
        measures = {f"{name}@{k}": partial(_RANKING[name], k=k) for k in ks for name in _RANKING}
        changes[text] = compare(*ranks, masks, measures, seed)
    metrics = sat.bundle.manifest.metrics
    return {
        "data": _summary(interactions_path, log, sat.bundle),
        "protocol": protocol,
        "profile": profile,
        "seed": seed,
        "repeats": sat.bundle.repeats,
        "repurchases": sat.bundle.repurchases.learned if sat.bundle.repurchases else None,
        "seconds": sat.seconds,
        "peak_memory_mb": peak_memory_mb(),
        "queries": len(rows),
        "metrics": _metrics(sat.answers, len(item_ids), ks, seed),
        "cohorts": _cohorts(sat.answers, task.past, masks, seed),
        "cold": _cold(sat.answers, task, rows, hidden, ks, seed) if cold else {},
        "without": changes,
        "ablation": _ablation(sat.answers, list(sat.bundle.retrievers), ks, seed),
        "parameters": sat.bundle.manifest.parameters,
        "curve": metrics.curve.model_dump() if metrics.curve else {},
        "search": [trial.model_dump() for trial in metrics.search or ()],
    }


class _Sitting(NamedTuple):
    """A bundle, its answers, and the seconds of the fit and of the answers."""

    bundle: Bundle
    answers: Answers
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Exam:
    """The circumstances that are the same for every fit of one evaluation.

    Attributes:
        item_ids: Items of the file.
        others: Items of the catalogue that have no event at all.
        rows: Queries asked.
        depth: Length of the lists.
        options: Options of the fits.
    """

    item_ids: list[str]
    others: list[str]
    rows: NDArray[np.int64]
    depth: int
    options: FitOptions

    def sit(
        self,
        task: Task,
        attributes: Mapping[str, Mapping[str, Any]],
        progress: Progress,
        without: str = "",
    ) -> _Sitting:
        """A bundle fitted on the task's events, and its answers to the task's queries."""

        def tell(step: ProgressStep) -> None:
            part = f"without {without}: " if without else ""
            progress(replace(_with_epochs(step), stage=part + _with_epochs(step).stage))

        began = time.perf_counter()
        task = task.only((task.past.counts() > 0)[task.log.item])
        options = replace(self.options, repeats=task.repeats, holdout=task.holdout)
        log, met = encoding.of_met_items(task.log)
        bundle = fit_log(log, [self.item_ids[item] for item in met], attributes, options, tell)
        fitted = time.perf_counter()
        # What is met has the bundle's numbers, and what is new follows.
        unmet = np.setdiff1d(np.arange(len(self.item_ids)), met)
        items = np.concatenate((met, unmet))
        new = [*(self.item_ids[item] for item in unmet), *self.others]
        answers = predict(
            bundle,
            [task.queries[row] for row in self.rows],
            partial(question_of, places=np.argsort(items).astype(np.int32)),
            self.depth,
            tell,
            described=[attributes.get(item_id, {}) for item_id in new],
            ablation=not without,
            in_processes=True,
        )
        places = np.concatenate((items, np.full(len(self.others) + 1, -1))).astype(np.int32)
        answers = replace(answers, shown=places[answers.shown])
        seconds = {"fit": fitted - began, "evaluate": time.perf_counter() - fitted}
        return _Sitting(bundle, answers, seconds)


def _with_epochs(step: ProgressStep) -> ProgressStep:
    if not step.epoch:
        return step
    return replace(step, stage=f"{step.stage}, {step.epoch} of {step.epochs} epochs")


def _metrics(
    answers: Answers, n_items: int, ks: Sequence[int], seed: int
) -> dict[str, dict[str, float]]:
    measured: dict[str, dict[str, float]] = {}
    for k in ks:
        for name, metric in _RANKING.items():
            measured[f"{name}@{k}"] = bootstrap_mean(metric(answers.ranks, k), seed)._asdict()
        measured[f"coverage@{k}"] = {"value": coverage(answers.shown[:, :k], n_items)}
    return measured


def _masks(
    task: Task, rows: NDArray[np.int64], log: InteractionLog
) -> dict[str, NDArray[np.bool_]]:
    """Masks over the queries asked, by cohort."""
    known = np.array([len(task.queries[row].history.item) for row in rows])
    labels = np.array([task.queries[row].label for row in rows])
    # An item outside the catalogue has no visitors.
    met = np.where(labels >= 0, task.past.counts()[labels], 0)
    masks = dict(cohorts(known, met))
    if task.asked is not None and (led := led_on(log)[task.asked[rows]]).any():
        masks[LED_ON] = led
    return masks


def _cohorts(
    answers: Answers, past: Past, masks: Mapping[str, NDArray[np.bool_]], seed: int
) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "queries": of_queries.queries,
            **{metric: mean._asdict() for metric, mean in of_queries.means.items()},
            **of_queries.totals,
        }
        for name, of_queries in figures(answers.ranks, answers.shown, past, masks, seed).items()
    }


def _cold(
    answers: Answers,
    task: Task,
    rows: NDArray[np.int64],
    hidden: NDArray[np.bool_],
    ks: Sequence[int],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Figures on hidden items by their events in the fit, then on all other items."""
    labels = np.array([task.queries[row].label for row in rows])
    of_hidden = (labels >= 0) & hidden[labels]
    met = task.past.counts()[labels]
    groups = {
        "hidden, 0 events": of_hidden & (met == 0),
        f"hidden, 1 to {COLD_EVENTS} events": of_hidden & (met > 0) & (met <= COLD_EVENTS),
        f"hidden, {COLD_EVENTS + 1} events and more": of_hidden & (met > COLD_EVENTS),
        "other items": ~of_hidden,
    }
    measures = {f"ndcg@{k}": partial(ndcg, k=k) for k in ks}
    measures[f"recall@{_DEEP}"] = partial(hit_rate, k=_DEEP)
    return {
        name: {
            "queries": int(mask.sum()),
            **{
                measure: bootstrap_mean(of(answers.ranks[mask]), seed)._asdict()
                for measure, of in measures.items()
            },
        }
        for name, mask in groups.items()
        if mask.any()
    }


def _ablation(
    answers: Answers, names: Sequence[str], ks: Sequence[int], seed: int
) -> dict[str, dict[str, Any]]:
    # Columns: the blend without the ranker, each retriever alone, the blend without each.
    columns = answers.ablated.T
    served = ndcg(answers.ranks, ks[0])
    ahead = [
        bootstrap_difference(served, ndcg(alone, ks[0]), seed)._asdict()
        for alone in columns[1 : 1 + len(names)]
    ]
    means = [
        {
            f"{name}@{k}": float(metric(column, k).mean())
            for k in ks
            for name, metric in _RANKING.items()
        }
        for column in columns
    ]
    return {
        "blend": {"without ranker": means[0]},
        "alone": dict(zip(names, means[1 : 1 + len(names)], strict=True)),
        "without": dict(zip(names, means[1 + len(names) :], strict=True)),
        "ahead": {
            name: {f"ndcg@{ks[0]}": difference}
            for name, difference in zip(names, ahead, strict=True)
        },
    }


def _summary(path: str | Path, log: InteractionLog, bundle: Bundle) -> dict[str, Any]:
    return {
        "file": str(path),
        "visitors": len(np.unique(log.user)),
        "items": len(bundle.item_ids),
        "events": len(log),
        "from": int(log.timestamp.min()),
        "until": int(log.timestamp.max()),
        "scripted": asdict(find_scripted(log.user, log.item, log.timestamp)[1]),
        "fitted_on": bundle.manifest.data.model_dump(by_alias=True),
    }
