"""Training run, from the lake to a bundle on disk, measured against the champion.

It knows no registry, no broker and no HTTP, and runs in a process of its own. `publish.py` in the
service decides about the bundle.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.training.erasures.lake_erasures import Erasures
from services.training.run.code_version import code_commit
from services.training.run.dataset import (
    Dataset,
    Moment,
    Rows,
    TooLittleDataError,
    moments,
    read_dataset,
    require,
)
from services.training.run.environment import environment
from services.training.run.held_out import hold_out
from services.training.run.job import Job, TrainingResult
from services.training.run.judge import (
    CHALLENGER,
    CHAMPION,
    POPULARITY,
    Judgement,
    flat,
    intervals,
    judge,
    popularity_of,
)
from services.training.run.progress import ProgressReporter
from services.training.run.samples import samples
from services.training.settings import TrainingSection
from slipstream.contracts.bundle import Histogram, Manifest
from slipstream.contracts.vocabulary import IMPRESSION, SIGNAL_WEIGHTS
from slipstream.evaluation.drift import histogram, reference_bins
from slipstream.evaluation.figures import Past
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import visitor_features
from slipstream.models.base import EventWeights, InteractionLog
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle, BundleError, load_bundle, save_bundle
from slipstream.recommender.fit import FitOptions, fit_log
from slipstream.recommender.holdout import sample
from slipstream.recommender.memory import peak_memory_mb
from slipstream.recommender.profiles import PROFILES
from slipstream.recommender.refit import refit
from slipstream.stores.lake import Lake

# Moments that the reference histograms are taken of.
REFERENCE_SAMPLE = 2_000


def train(job: Job, report: ProgressReporter) -> TrainingResult:
    """Read, split, fit, judge, refit, save.

    Raises TooLittleDataError when there is not enough to learn from.
    """
    settings = job.training
    weights = event_weights(settings)

    report.stage("reading the lake", 0.0, 0.02)
    lake, versions = Lake(job.lake, job.namespace), (job.lake_version, job.catalog_version)
    dataset = read_dataset(lake, *versions, weights, settings.most_events)
    report.fact(
        lake_version=dataset.lake_version,
        lake_rows=dataset.lake_rows,
        catalog_version=dataset.catalog_version,
    )
    signals = dataset.signals(weights)
    require(dataset, signals, settings.min_events, settings.min_visitors, settings.min_items)
    champion, champion_error = _champion(job.champion)
    goes_on = champion is not None and _may_go_on(champion.manifest, dataset, lake)

    champion_until = champion.manifest.data.until if champion else None
    held_out = hold_out(
        dataset, signals, champion_until, settings, PROFILES[job.profile].ranking_queries
    )
    report.stage("fitting the challenger", 0.02, 0.85)
    known = _log(dataset, held_out.fit, weights)
    challenger = _fit(dataset, known, job, weights, champion, goes_on, report)

    queries = [
        moment for moment in moments(dataset.interactions, held_out.test) if moment.state.sequence
    ]
    if not queries:
        raise TooLittleDataError(
            "too little data to train on: no visitor of the test period has a history "
            "to recommend from"
        )
    comparable = champion if held_out.unseen_by_champion else None
    judgement = _judge(
        challenger,
        comparable,
        queries,
        Past(known.user, known.item, known.n_items),
        settings.seed,
        report,
    )
    figures = judgement.figures()
    metrics = flat(figures)
    shown = samples(
        queries, judgement.cohorts, challenger, champion, dataset.attributes, settings.seed
    )

    report.stage("fitting on everything", 0.92, 0.97)
    everything = _log(dataset, signals, weights)
    if challenger.manifest.metrics.validation is not None:
        shipped = refit(challenger, everything, report.step)
    else:  # too little to choose parameters by; with all of the data there may be enough
        shipped = _fit(dataset, everything, job, weights, champion, goes_on, report)
    report.stage("measuring the reference of features", 0.97, 0.98)
    reference = reference_histograms(
        dataset, sample(np.flatnonzero(signals), REFERENCE_SAMPLE, settings.seed)
    )
    commit = settings.code_commit or code_commit()
    report.stage("saving the bundle", 0.98, 0.99)
    manifest = shipped.manifest.model_copy(
        update={
            "code_commit": commit,
            "lake_version": dataset.lake_version,
            "oldest_lake_version": champion.manifest.learned_from
            if champion is not None and shipped.manifest.parameters["network_from"]
            else dataset.lake_version,
            "metrics": shipped.manifest.metrics.model_copy(
                update={**metrics, "intervals": intervals(figures)}
            ),
            "features": list(RECOMMENDER.of(VISITOR)),
            "reference": reference,
        }
    )
    saved = save_bundle(replace(shipped, manifest=manifest), job.output)
    report.finish()
    return TrainingResult(
        lake_version=dataset.lake_version,
        catalog_version=dataset.catalog_version,
        data_sha256=dataset.digest(),
        code_commit=commit,
        environment=environment(),
        metrics=metrics,
        figures=figures,
        parameters=dict(manifest.parameters),
        measured=judgement.measurements(sum(file.bytes for file in saved.files.values())),
        samples=shown,
        champion_version=job.champion_version,
        champion_error=champion_error,
        seconds=report.seconds,
        peak_memory_mb=round(peak_memory_mb(), 1),
    )


def reference_histograms(dataset: Dataset, rows: Rows) -> dict[str, Histogram]:
    """Distributions of the visitor features of slates at these moments, as they were read then."""
    names = RECOMMENDER.of(VISITOR)
    vectors = [
        visitor_features(moment.state, moment.timestamp, names)
        for moment in moments(dataset.interactions, rows)
    ]
    histograms = {}
    for name in names:
        values = np.array([features[name] for features in vectors], np.float64)
        edges = reference_bins(values)
        histograms[name] = Histogram(edges=edges.tolist(), counts=histogram(values, edges).tolist())
    return histograms


def _fit(
    dataset: Dataset,
    log: InteractionLog,
    job: Job,
    weights: EventWeights,
    champion: Bundle | None,
    goes_on: bool,
    report: ProgressReporter,
) -> Bundle:
    options = FitOptions(
        version=job.version,
        profile=job.profile,
        seed=job.training.seed,
        event_weights=weights,
        start_from=champion,
        goes_on=goes_on,
        checkpoints=job.checkpoints,
        search_s=60 * job.training.search_minutes if job.profile == "best" else 0.0,
    )
    return fit_log(log, dataset.item_ids, dataset.attributes, options, report.step)


def _log(dataset: Dataset, rows: NDArray[np.bool_], weights: EventWeights) -> InteractionLog:
    """The log of the signals of these rows, with the lists shown up to the last of them."""
    times = dataset.interactions["timestamp"].to_numpy()
    shown = pc.equal(dataset.interactions["event_type"], IMPRESSION).to_numpy() & (
        times <= times[rows].max(initial=0)
    )
    return encoding.encode(
        dataset.interactions.filter(pa.array(rows | shown)), dataset.item_ids, weights
    )


def event_weights(settings: TrainingSection) -> EventWeights:
    """The weight of each type of event: as configured, else the usual one."""
    by_type = {**SIGNAL_WEIGHTS, **settings.event_weights}
    return EventWeights(
        by_type,
        rating_scale=settings.rating_scale or None,
        usual_value=settings.usual_value or None,
    )


def _judge(
    challenger: Bundle,
    champion: Bundle | None,
    queries: list[Moment],
    past: Past,
    seed: int,
    report: ProgressReporter,
) -> Judgement:
    contestants = {CHALLENGER: challenger, POPULARITY: popularity_of(challenger)} | (
        {CHAMPION: champion} if champion else {}
    )
    report.stage("judging", 0.85, 0.92)
    return judge(contestants, queries, past, seed, report.step)


def _may_go_on(champion: Manifest, dataset: Dataset, lake: Lake) -> bool:
    """Whether the champion's network may be trained further.

    Not where it knows of visitors who were erased since, nor where it is of another lake.
    """
    learned_from = champion.learned_from
    return (
        learned_from is not None
        and learned_from <= dataset.lake_version
        and Erasures(lake).first_after(champion) is None
    )


def _champion(directory: Path | None) -> tuple[Bundle | None, str]:
    """The champion's bundle, or the reason why it can't be loaded.

    A champion that can't be loaded must be replaced, not defended.
    """
    if directory is None:
        return None, ""
    try:
        return load_bundle(directory), ""
    except BundleError as error:
        return None, str(error)
