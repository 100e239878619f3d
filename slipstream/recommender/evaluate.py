"""Offline evaluation of a file: a bundle is fitted on one part, and predicts the other.

It predicts through the stages that serve, and the whole catalogue competes. The protocols are those
of `slipstream.recommender.protocols`. They count every visitor, as published figures do: scripted
ones, which a training run leaves out, are only counted.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.datasets.interactions import read_interactions, read_items, read_queries
from slipstream.evaluation.figures import COLD_EVENTS, LED_ON, Past, cohorts, figures
from slipstream.evaluation.metrics import Ranks, Values, coverage, hit_rate, mrr, ndcg
from slipstream.evaluation.significance import bootstrap_difference, bootstrap_mean
from slipstream.models.base import EventWeights, Indices, InteractionLog
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.fit import FitOptions, fit_log
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
from slipstream.recommender.refit import refit
from slipstream.recommender.scripted import find_scripted

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
    cold: float = 0.0,
    cold_events: int = 0,
    as_served: bool = False,
) -> dict[str, Any]:
    """Figures of a bundle that is fitted on one part of the file and predicts the other.

    The bundle knows the items that have events to fit on. All others are new to it, as in service.

    Args:
        queries: File of queries, for next-click alone.
        search_minutes: Part of the fit that searches the network's parameters, on validation alone.
        last_days: Days at the end that a time-split or discovery holds out, instead of a fifth of
            the events.
        cold: Share of the items that are drawn by the seed and hidden from the fit.
        cold_events: The first events of each hidden item that stay in the fit.
        as_served: Whether to measure once more after a refit on everything but the test, as a
            training run ships it. Of leave-last-out alone: the others refit anyway.

    Returns:
        One JSON value, which repeats the arguments and has:
        `metrics`: hit_rate, ndcg, mrr (means over queries, with 95 % bootstrap intervals) and
        coverage at each k.
        `cohorts`: For all queries, for those of new and of returning visitors, for cold items, and
        for `led_on` (a first event on an item that then went into the cart or was bought), the
        figures of a training run (`slipstream.evaluation.figures`, of lists of 10 or the longest
        k), with novelty, diversity and popularity bias.
        `as_served`: `metrics` after that refit; empty without one. No published figure is measured
        so.
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
    if as_served and (protocol != "leave-last-out" or cold):
        raise ValueError("a refit on everything but the test is of leave-last-out without --cold")
    progress(ProgressStep("reading", 0.0))
    interactions = read_interactions(interactions_path)
    item_table = read_items(items) if items is not None else None
    weights = EventWeights()
    item_ids = encoding.met_items(interactions, weights)
    log = encoding.encode(interactions, item_ids, weights)
    prefixes = list(prefix_queries(read_queries(queries), item_ids)) if queries is not None else []
    task = task_of(protocol, log, prefixes, profile, last_days, seed)
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
    del interactions  # the table takes more memory than the log
    options = FitOptions(
        profile=profile, seed=seed, event_weights=weights, search_s=60 * search_minutes
    )
    began = time.perf_counter()
    fitted = bundle, _ = _fit(
        task, item_ids, attributes, options, lambda step: progress(_with_epochs(step))
    )
    fit_s, began = time.perf_counter() - began, time.perf_counter()
    asked = task.queries, item_ids, sorted(others), attributes, max(ks), progress
    answers = _answers(fitted, *asked, ablation=True)
    seconds = {"fit": fit_s, "evaluate": time.perf_counter() - began}
    served = (
        _answers(_fit_again(bundle, task, item_ids, attributes, progress), *asked)
        if as_served
        else None
    )
    metrics = bundle.manifest.metrics
    return {
        "data": _summary(interactions_path, log, bundle),
        "protocol": protocol,
        "profile": profile,
        "seed": seed,
        "repeats": bundle.repeats,
        "repurchases": bundle.repurchases.learned if bundle.repurchases else None,
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
        "queries": len(task.queries),
        "metrics": _metrics(answers, len(item_ids), ks, seed),
        "as_served": _metrics(served, len(item_ids), ks, seed) if served else {},
        "cohorts": _cohorts(answers, task.past, _masks(task, log), seed),
        "cold": _cold(answers, task, hidden, ks, seed) if cold else {},
        "ablation": _ablation(answers, list(bundle.retrievers), ks, seed),
        "parameters": bundle.manifest.parameters,
        "curve": metrics.curve.model_dump() if metrics.curve else {},
        "search": [trial.model_dump() for trial in metrics.search or ()],
    }


def _fit(
    task: Task,
    item_ids: Sequence[str],
    attributes: Mapping[str, Mapping[str, Any]],
    options: FitOptions,
    progress: Progress,
) -> tuple[Bundle, Indices]:
    """A bundle fitted on the task's events, and the number of each of its items in the file."""
    task = task.only((task.past.counts() > 0)[task.log.item])
    log, met = encoding.of_met_items(task.log)
    with tempfile.TemporaryDirectory() as folder:
        options = replace(
            options, repeats=task.repeats, holdout=task.holdout, checkpoints=Path(folder)
        )
        return fit_log(log, [item_ids[item] for item in met], attributes, options, progress), met


def _fit_again(
    bundle: Bundle,
    task: Task,
    item_ids: Sequence[str],
    attributes: Mapping[str, Mapping[str, Any]],
    progress: Progress,
) -> tuple[Bundle, Indices]:
    """The bundle refitted on the validation events, too, and its items as `_fit` returns them."""
    assert task.holdout is not None  # noqa: S101
    rows = np.union1d(task.holdout.final, task.holdout.validation)
    log, met = encoding.of_met_items(task.log.select(rows))
    met_ids = [item_ids[item] for item in met]
    return refit(bundle, log, met_ids, attributes, progress=progress), met


def _answers(
    fitted: tuple[Bundle, Indices],
    queries: Sequence[Query],
    item_ids: Sequence[str],
    others: Sequence[str],
    attributes: Mapping[str, Mapping[str, Any]],
    depth: int,
    progress: Progress,
    *,
    ablation: bool = False,
) -> Answers:
    """Answers in the file's numbers, which `others` follow: items that have no event at all."""
    bundle, met = fitted
    # What is met has the bundle's numbers, and what is new follows.
    unmet = np.setdiff1d(np.arange(len(item_ids)), met)
    items = np.concatenate((met, unmet))
    new = [*(item_ids[item] for item in unmet), *others]
    answers = predict(
        bundle,
        queries,
        partial(question_of, places=np.argsort(items).astype(np.int32)),
        depth,
        progress,
        described=[attributes.get(item_id, {}) for item_id in new],
        ablation=ablation,
        in_processes=True,
    )
    places = np.concatenate((items, np.full(len(others) + 1, -1))).astype(np.int32)
    return replace(answers, shown=places[answers.shown])


def _with_epochs(step: ProgressStep) -> ProgressStep:
    if not step.epoch:
        return step
    return replace(step, stage=f"{step.stage}, {step.epoch} of {step.epochs} epochs")


def _metrics(
    answers: Answers, n_items: int, ks: Sequence[int], seed: int
) -> dict[str, dict[str, float]]:
    measured: dict[str, dict[str, float]] = {}
    for k in ks:
        measures = {f"{name}@{k}": partial(metric, k=k) for name, metric in _RANKING.items()}
        measured |= _means(answers.ranks, measures, seed)
        measured[f"coverage@{k}"] = {"value": coverage(answers.shown[:, :k], n_items)}
    return measured


def _means(
    ranks: Ranks, measures: Mapping[str, Callable[[Ranks], Values]], seed: int
) -> dict[str, dict[str, float]]:
    return {name: bootstrap_mean(of(ranks), seed)._asdict() for name, of in measures.items()}


def _masks(task: Task, log: InteractionLog) -> dict[str, NDArray[np.bool_]]:
    """Masks over the queries, by cohort."""
    known = np.array([len(query.history.item) for query in task.queries])
    labels = np.array([query.label for query in task.queries])
    # An item outside the catalogue has no visitors.
    met = np.where(labels >= 0, task.past.counts()[labels], 0)
    masks = dict(cohorts(known, met))
    if task.asked is not None and (led := led_on(log)[task.asked]).any():
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
    hidden: NDArray[np.bool_],
    ks: Sequence[int],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Figures on hidden items by their events in the fit, then on all other items."""
    labels = np.array([query.label for query in task.queries])
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
        name: {"queries": int(mask.sum()), **_means(answers.ranks[mask], measures, seed)}
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
