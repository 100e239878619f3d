"""Offline evaluation of a file: a bundle is fitted on one part, and predicts the other.

It predicts through the stages that serve, and the whole catalogue competes. The protocols are
leave-last-out, next-click and time-split, as `slipstream.evaluation.splits` defines them.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.datasets.interactions import read_interactions, read_items, read_queries
from slipstream.evaluation.cohorts import cohorts
from slipstream.evaluation.figures import Past, figures
from slipstream.evaluation.metrics import coverage, hit_rate, mrr, ndcg
from slipstream.evaluation.significance import bootstrap_difference, bootstrap_mean
from slipstream.models.base import EventWeights, InteractionLog
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.fit import FitOptions, fit_log
from slipstream.recommender.holdout import sample
from slipstream.recommender.memory import peak_memory_mb
from slipstream.recommender.predict import Answers, predict, question_of
from slipstream.recommender.profiles import PROFILES
from slipstream.recommender.protocols import PROTOCOLS, prefix_queries, task_of

MOST_QUERIES = 100_000
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
) -> dict[str, Any]:
    """Figures of a bundle that is fitted on one part of the file and predicts the other.

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
        last_days: Days at the end that a time-split holds out, instead of a fifth of the events.

    Returns:
        One JSON value, which repeats the arguments and has:
        `metrics`: hit_rate, ndcg, mrr (means over queries, with 95 % bootstrap intervals) and
        coverage at each k.
        `cohorts`: For all queries, for those of new and of returning visitors, and for cold items,
        the figures of a training run (`slipstream.evaluation.figures`, of lists of 10 or the
        longest k), with novelty, diversity and popularity bias.
        `ablation`: The same means for each retriever `alone`, and for the blend `without` each,
        whose other exponents stay; and how far the served lists are `ahead` of each retriever
        alone, in NDCG at the first k, paired on the queries, with the interval.
        `parameters`: Parameters that were chosen; `curve`: how the network learned, by epoch;
        `search`: trials of the search.
        `data`, `repeats`, `seconds`, `peak_memory_mb`, `queries`: Circumstances. Of more than
        100,000 queries a sample is asked.

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
    if last_days is not None and (protocol != "time-split" or last_days <= 0):
        raise ValueError("the last days to keep out are more than 0, and of a time-split only")
    progress(ProgressStep("reading", 0.0))
    interactions = read_interactions(interactions_path)
    item_table = read_items(items) if items is not None else None
    weights = EventWeights()
    item_ids = encoding.met_items(interactions, weights)
    log = encoding.encode(interactions, item_ids, weights)
    prefixes = list(prefix_queries(read_queries(queries), item_ids)) if queries is not None else []
    task = task_of(protocol, log, prefixes, profile, last_days)
    if not len(task.queries):
        raise ValueError(f"{interactions_path}: nothing to predict under {protocol}")

    began = time.perf_counter()
    options = FitOptions(
        profile=profile,
        seed=seed,
        event_weights=weights,
        repeats=task.repeats,
        holdout=task.holdout,
        search_s=60 * search_minutes,
    )
    bundle = fit_log(
        task.log,
        item_ids,
        encoding.attributes(item_table, item_ids),
        options,
        lambda step: progress(_with_epochs(step)),
    )
    fitted = time.perf_counter()
    asked = task.queries
    if len(asked) > MOST_QUERIES:
        asked = [asked[place] for place in sample(np.arange(len(asked)), MOST_QUERIES, seed)]
    answers = predict(
        bundle, asked, question_of, max(ks), progress, ablation=True, in_processes=True
    )
    metrics = bundle.manifest.metrics
    return {
        "data": _summary(interactions_path, log, bundle),
        "protocol": protocol,
        "profile": profile,
        "repeats": bundle.repeats,
        "seconds": {"fit": fitted - began, "evaluate": time.perf_counter() - fitted},
        "peak_memory_mb": peak_memory_mb(),
        "queries": len(asked),
        "metrics": _metrics(answers, len(item_ids), ks, seed),
        "cohorts": _cohorts(answers, asked, task.past, seed),
        "ablation": _ablation(answers, list(bundle.retrievers), ks, seed),
        "parameters": bundle.manifest.parameters,
        "curve": metrics.curve.model_dump() if metrics.curve else {},
        "search": [trial.model_dump() for trial in metrics.search or ()],
    }


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


def _cohorts(
    answers: Answers, asked: Sequence[Query], past: Past, seed: int
) -> dict[str, dict[str, Any]]:
    known = np.array([len(query.history.item) for query in asked])
    labels = np.array([query.label for query in asked])
    # Nobody has met an item that is not in the catalogue.
    met = np.where(labels >= 0, past.counts()[labels], 0)
    by_cohort = figures(answers.ranks, answers.shown, past, cohorts(known, met), seed)
    return {
        name: {
            "queries": of_queries.queries,
            **{metric: mean._asdict() for metric, mean in of_queries.means.items()},
            **of_queries.totals,
        }
        for name, of_queries in by_cohort.items()
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
        "fitted_on": bundle.manifest.data.model_dump(by_alias=True),
    }
