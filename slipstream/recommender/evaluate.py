"""Offline evaluation: fit on one part of a file, predict the other, through the stages that serve.

Leave-last-out, next-click and time-split as `slipstream.evaluation.splits` defines them; every item
of the catalogue competes.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.times import DAY_MS
from slipstream.datasets.interactions import read_interactions, read_items, read_queries
from slipstream.evaluation import metrics, splits
from slipstream.evaluation.cohorts import cohorts
from slipstream.evaluation.figures import Past, figures
from slipstream.evaluation.significance import bootstrap_difference, bootstrap_mean
from slipstream.models.base import EventWeights, History, InteractionLog
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.fit import Holdout, fit_log
from slipstream.recommender.memory import peak_memory_mb
from slipstream.recommender.predict import predict
from slipstream.recommender.profiles import PROFILES

PROTOCOLS = ("leave-last-out", "next-click", "time-split")
TEST_SHARE = 0.2
MOST_QUERIES = 100_000
_VALIDATION_SESSIONS = 5_000
# Where few visitors make a choice of parameters uncertain, so many more events of each are
# predicted, always without having been fitted on; the final models are fitted on them too.
_FURTHER_VALIDATION = 3
_RANKING = {"hit_rate": metrics.hit_rate, "ndcg": metrics.ndcg, "mrr": metrics.mrr}


@dataclass(frozen=True)
class Task:
    """What a protocol makes of a file."""

    # What may be fitted on.
    log: InteractionLog
    holdout: Holdout | None
    queries: Sequence[Query]
    # Whether items of the history may be recommended again; None: as the data suggest.
    repeats: bool | None

    @property
    def past(self) -> Past:
        """What had happened before the queries."""
        log = self.log.select(self.holdout.final) if self.holdout else self.log
        return Past(log.user, log.item, log.n_items)


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
    """Fits on the file and measures; the result is one JSON value.

    It has data, protocol, profile, repeats, seconds, peak_memory_mb, queries, metrics, cohorts,
    ablation, parameters, how the network learned (`curve`, on validation), and the trials of the
    `search` for the network's parameters, which takes `search_minutes` of the fit and knows
    validation alone. `last_days` is how much of the time a time-split keeps out, instead of a fifth
    of the events.

    Metrics are hit_rate, ndcg, mrr (means over queries, with 95 % bootstrap intervals) and coverage
    at each k; `cohorts` has, for all queries and for those of new and returning visitors and of
    cold items, what a training run reports, novelty, diversity and the bias to what is popular
    among it (`slipstream.evaluation.figures`, by lists of 10 or the longest k). `ablation` has the
    same means for each retriever `alone`, and for the blend `without` each, whose other exponents
    stay; `ahead` is what is served less each retriever alone, in NDCG at the first k, paired on the
    queries, with its interval. Of more than 100,000 queries a sample is asked. Raises ValueError
    for an unknown protocol, a missing or superfluous query file, and a file that leaves nothing to
    predict; InteractionFileError for a file that is not in the format.
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
    item_ids = encoding.catalogue(interactions, item_table)
    weights = EventWeights()
    log = encoding.encode(interactions, item_ids, weights)
    prefixes = list(_prefixes(read_queries(queries), item_ids)) if queries is not None else []
    task = _task(protocol, log, prefixes, profile, last_days)
    if not len(task.queries):
        raise ValueError(f"{interactions_path}: nothing to predict under {protocol}")

    began = time.perf_counter()
    bundle = fit_log(
        task.log,
        item_ids,
        encoding.attributes(item_table, item_ids),
        holdout=task.holdout,
        profile=profile,
        seed=seed,
        event_weights=weights,
        repeats=task.repeats,
        progress=lambda step: progress(_with_epochs(step)),
        search_s=60 * search_minutes,
    )
    fitted = time.perf_counter()
    asked = task.queries
    if len(asked) > MOST_QUERIES:
        chosen = np.sort(
            np.random.default_rng(seed).choice(len(asked), MOST_QUERIES, replace=False)
        )
        asked = [asked[place] for place in chosen]
    ranks, shown = predict(bundle, asked, max(ks), progress)
    return {
        "data": _summary(interactions_path, log, bundle),
        "protocol": protocol,
        "profile": profile,
        "repeats": bundle.repeats,
        "seconds": {"fit": fitted - began, "evaluate": time.perf_counter() - fitted},
        "peak_memory_mb": peak_memory_mb(),
        "queries": len(asked),
        "metrics": _metrics(ranks[:, 0], shown, len(item_ids), ks, seed),
        "cohorts": _cohorts(ranks[:, 0], shown, asked, task.past, seed),
        "ablation": _ablation(ranks, list(bundle.retrievers), ks, seed),
        "parameters": bundle.manifest.parameters,
        "curve": bundle.manifest.metrics.get("curve", {}),
        "search": bundle.manifest.metrics.get("search", []),
    }


def _with_epochs(step: ProgressStep) -> ProgressStep:
    if not step.epoch:
        return step
    return replace(step, stage=f"{step.stage}, {step.epoch} of {step.epochs} epochs")


def _task(
    protocol: str,
    log: InteractionLog,
    prefixes: Sequence[Query],
    profile: str,
    last_days: float | None,
) -> Task:
    if protocol == "leave-last-out":
        split = splits.leave_last_out(log.user)
        scarce = len(split.validation) < PROFILES[profile].ranking_queries
        inner = splits.hold_out_last(log.user[split.training], _FURTHER_VALIDATION if scarce else 0)
        validation = np.sort(np.concatenate((split.validation, split.training[inner.validation])))
        holdout = Holdout(split.training[inner.training], validation, split.training)
        return Task(log, holdout, encoding.queries(log, split.test), repeats=False)
    if protocol == "time-split":
        if last_days is None:
            split = splits.time_split(log.user, log.timestamp, TEST_SHARE)
        else:
            split = splits.split_at(
                log.user, log.timestamp, int(log.timestamp.max() - last_days * DAY_MS) + 1
            )
        if not len(split.training):
            kept_out = (
                "happened at the same moment"
                if last_days is None
                else f"are of the last {last_days:g} days"
            )
            raise ValueError(f"all events {kept_out}: nothing is left to fit on")
        return Task(
            log.select(split.training), None, encoding.queries(log, split.test), repeats=None
        )
    split = splits.next_click(log.user, log.timestamp, _VALIDATION_SESSIONS)
    holdout = Holdout(split.training, split.validation, np.arange(len(log)))
    return Task(_by_position(log), holdout, prefixes, repeats=True)


def _by_position(log: InteractionLog) -> InteractionLog:
    """Sessions in which each click is one millisecond after the last: the prefixes of a query file
    have no times either.
    """
    starts = splits.history_starts(log.user)
    return replace(log, timestamp=log.timestamp[starts] + np.arange(len(log)) - starts)


def _prefixes(query_table: pa.Table, item_ids: list[str]) -> Iterator[Query]:
    """Sessions of views without times; a label that is not in the catalogue can never be found, and
    stays a miss.
    """
    index = {item_id: place for place, item_id in enumerate(item_ids)}
    for prefix, label in zip(
        query_table["prefix"].to_pylist(), query_table["label"].to_pylist(), strict=True
    ):
        item = np.array([index[item_id] for item_id in prefix or () if item_id in index], np.int32)
        history = History(
            item, np.ones(len(item), np.float32), np.arange(len(item), dtype=np.int64)
        )
        yield Query(history, index.get(label, -1))


def _metrics(
    ranks: NDArray[np.int64], shown: NDArray[np.int32], n_items: int, ks: Sequence[int], seed: int
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for k in ks:
        for name, metric in _RANKING.items():
            found[f"{name}@{k}"] = bootstrap_mean(metric(ranks, k), seed)._asdict()
        found[f"coverage@{k}"] = {"value": metrics.coverage(shown[:, :k], n_items)}
    return found


def _cohorts(
    ranks: NDArray[np.int64],
    shown: NDArray[np.int32],
    asked: Sequence[Query],
    past: Past,
    seed: int,
) -> dict[str, dict[str, Any]]:
    known = np.array([len(query.history.item) for query in asked])
    labels = np.array([query.label for query in asked])
    met = np.where(
        labels >= 0, past.counts()[labels], 0
    )  # what is not in the catalogue has been met by nobody
    found = figures(ranks, shown, past, cohorts(known, met), seed)
    return {
        name: {
            "queries": one.queries,
            **{metric: mean._asdict() for metric, mean in one.means.items()},
            **one.totals,
        }
        for name, one in found.items()
    }


def _ablation(
    ranks: NDArray[np.int64], names: Sequence[str], ks: Sequence[int], seed: int
) -> dict[str, dict[str, Any]]:
    served, alone = ranks[:, 0], ranks.T[2 : 2 + len(names)]
    ahead = [
        bootstrap_difference(
            metrics.ndcg(served, ks[0]), metrics.ndcg(column, ks[0]), seed
        )._asdict()
        for column in alone
    ]
    means = [
        {
            f"{name}@{k}": float(metric(column, k).mean())
            for k in ks
            for name, metric in _RANKING.items()
        }
        for column in ranks.T[1:]
    ]
    return {
        "blend": {"without ranker": means[0]},
        "alone": dict(zip(names, means[1 : 1 + len(names)], strict=True)),
        "without": dict(zip(names, means[1 + len(names) :], strict=True)),
        "ahead": {name: {f"ndcg@{ks[0]}": one} for name, one in zip(names, ahead, strict=True)},
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
