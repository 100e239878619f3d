"""Training run, from the lake to a bundle on disk, measured against the champion.

It knows no registry, no broker and no HTTP, and runs in a process of its own. `publish.py` in the
service decides about the bundle.

Events are held out of the fit, for the questions that challenger and champion are asked. A sample
of visitors is evidence for people, with both models' lists: they are drawn by seed, some of each
cohort, and not chosen, and their ids are not kept. The commit and the versions of the environment
reproduce the figures, its machine explains the times.

Questions are what a list could lead to, and what none led to: not the events on the item just
looked at, which serving hides, and, where enough are left, none of those that name a list, which a
champion knows from its own lists (docs/adr/0110).

While an alert on a shift is open, the questions are from after its onset: what was right before is
not what visitors want now. Parameters, blend and ranker are chosen on such events, too
(docs/adr/0102).

Scripted visitors are left out of everything (`slipstream.recommender.scripted`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.training.lake_erasures import Erasures
from services.training.run.dataset import (
    Dataset,
    Moment,
    Rows,
    TooLittleDataError,
    moments,
    read_dataset,
    require,
    validate,
)
from services.training.run.job import Job, ProgressReporter, Sample, SampleItem, TrainingResult
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
from services.training.run.provenance import environment, program_versions
from services.training.settings import TrainingSection
from slipstream.contracts.bundle import Manifest
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import IMPRESSION, SIGNAL_WEIGHTS
from slipstream.evaluation.data_checks import CatalogueFigures, EventFigures
from slipstream.evaluation.figures import ALL, K, Past
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.models.base import NEVER, EventWeights, InteractionLog
from slipstream.models.repurchases import of_resting
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle, BundleError, load_bundle, save_bundle
from slipstream.recommender.fit import FitOptions, fit_log
from slipstream.recommender.holdout import over_visitors
from slipstream.recommender.memory import peak_memory_mb
from slipstream.recommender.network import TrainingData
from slipstream.recommender.profiles import PROFILES
from slipstream.recommender.refit import describe, item_terms, refit
from slipstream.recommender.stages import Event, recommend
from slipstream.stores.lake import Lake


@dataclass(frozen=True)
class EvaluationSplit:
    """Split of the history into events to fit the challenger on, and events to ask about.

    Attributes:
        fit: Mask of the events to fit on.
        test: Rows of the events to ask about, few of each visitor.
        cut: Time of the first event held out (ms).
        unseen_by_champion: Whether the champion was fitted on none of the test.
    """

    fit: NDArray[np.bool_]
    test: Rows
    cut: int
    unseen_by_champion: bool


def hold_out(
    dataset: Dataset,
    signals: NDArray[np.bool_],
    rested: NDArray[np.bool_],
    champion_until: int | None,
    settings: TrainingSection,
    validation_queries: int,
    onset: int | None = None,
) -> EvaluationSplit:
    """Hold out the last share of the events by time, without the champion's where enough is left.

    A champion has seen everything up to its last training run, and asking it about that would
    flatter it. So the cut moves to just after that. Where both halves of the newer data suffice,
    the cut moves between them: the challenger then learns from events that the champion has not
    seen. Where too little is newer, the cut stays, and the two can't be compared.

    After a shift, only events since its onset count as newer, and they are halved wherever the gate
    has enough to compare on: a challenger that has seen nothing of the shift can't answer it.

    Events that name a list are left out of the test where as many others are left as a cohort
    needs. The champion has put their items in its lists, mostly on top, so its answers to them are
    right whatever visitors would have taken from another list.

    Args:
        signals: Mask of the events that models are fitted on.
        rested: Mask of the events that are not asked about: on items that rested.
        champion_until: Time of the last event that the champion was fitted on (ms); None without a
            champion.
        settings: Share and size of the test.
        validation_queries: Queries that the challenger's fit asks in validation.
        onset: When the shift began (ms); None without one.
    """
    times = dataset.interactions["timestamp"].to_numpy()
    users = dataset.interactions["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    of_signals = times[signals]
    cut = int(of_signals[int(len(of_signals) * (1 - settings.test_share))])
    unseen = champion_until is None or champion_until < cut
    after, least = champion_until, max(settings.max_test_queries, validation_queries)
    if onset is not None:
        after, least = max(champion_until or 0, onset - 1), settings.gate.min_queries
    if after is not None:
        newer = of_signals[of_signals > after]
        half = len(newer) // 2
        if half >= least and newer[half] > newer[0]:
            cut, unseen = max(cut, int(newer[half])), True
        elif onset is not None:
            unseen = False
        elif not unseen and len(newer) >= settings.gate.min_queries:
            cut, unseen = after + 1, True
    fit = signals & (times < cut)
    if not fit.any():
        raise TooLittleDataError(
            "too little data to train on: all events happened at the same moment"
        )
    met_at = np.full(int(users.max()) + 1, NEVER)
    np.minimum.at(met_at, users[signals], of_signals)
    rows = np.flatnonzero(signals & ~rested & (times >= cut) & (times > met_at[users]))
    unlisted = rows[dataset.interactions["recommendation_id"].is_null().to_numpy()[rows]]
    if len(unlisted) >= settings.gate.cohort_min_queries:
        rows = unlisted
    test = over_visitors(rows, users[rows], settings.max_test_queries, settings.seed)
    return EvaluationSplit(fit, test, cut, unseen)


OF_EACH_COHORT = 2
LAST_EVENTS = 10


def samples(
    queries: Sequence[Moment],
    cohorts: Mapping[str, NDArray[np.bool_]],
    challenger: Bundle,
    champion: Bundle | None,
    attributes: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> list[Sample]:
    """Two queries at most of each cohort but `all`, each once, with both lists of ten.

    A champion that could not be compared, since it was fitted on the test, may have met the next
    item.

    Args:
        cohorts: Masks over the queries.
        champion: The champion; None without one.
    """
    random = np.random.default_rng(seed)
    drawn: list[int] = []
    for cohort, mask in cohorts.items():
        if cohort != ALL:
            open_to = np.setdiff1d(np.flatnonzero(mask), drawn)
            drawn += random.choice(
                open_to, min(OF_EACH_COHORT, len(open_to)), replace=False
            ).tolist()

    def item(item_id: str, source: str = "") -> SampleItem:
        known = attributes.get(item_id, {})
        return SampleItem(
            item_id=item_id, title=str(known.get("title") or known.get("name") or ""), source=source
        )

    def shown(bundle: Bundle, moment: Moment) -> list[SampleItem]:
        history = [Event(*event) for event in moment.state.sequence]
        return [item(each.item_id, each.source) for each in recommend(bundle, history, K)]

    return [
        Sample(
            cohorts=[cohort for cohort, mask in cohorts.items() if cohort != ALL and mask[place]],
            history=[item(event.item_id) for event in queries[place].state.sequence[-LAST_EVENTS:]],
            next_item=item(queries[place].item_id or ""),
            champion=shown(champion, queries[place]) if champion else None,
            challenger=shown(challenger, queries[place]),
        )
        for place in sorted(drawn)
    ]


def train(job: Job, report: ProgressReporter) -> TrainingResult:
    """Read, split, fit, judge, refit, save.

    Raises TooLittleDataError when there is not enough to learn from.
    """
    settings = job.training
    weights = event_weights(settings)

    report.stage("reading the lake", 0.0, 0.02)
    lake, versions = Lake(job.lake, job.namespace), (job.lake_version, job.catalog_version)
    dataset = read_dataset(
        lake,
        *versions,
        weights,
        settings.most_events,
        exclude_scripted=settings.exclude_scripted,
    )
    snapshot = {
        "lake_version": dataset.lake_version,
        "lake_rows": dataset.lake_rows,
        "catalog_version": dataset.catalog_version,
    }
    report.fact(**snapshot)
    program = program_versions(settings)
    report.output(**snapshot, **program)
    report.stage("checking the data", 0.02, 0.02)
    findings = [
        {"check": found.check, "weight": found.weight.name.lower(), "figure": found.figure}
        for found in validate(dataset, now_ms())
    ]
    report.output(findings=findings)
    # They count every visitor by name, and the fit needs the memory.
    dataset = replace(dataset, events=EventFigures(), catalogue=CatalogueFigures())
    signals = dataset.signals(weights)
    require(dataset, signals, settings.min_events, settings.min_visitors, settings.min_items)
    champion, champion_error = _champion(job.champion)
    onset = job.onset if champion else None
    # Choices from before a shift are made again.
    keeps = champion is not None and onset is None and _may_keep(champion.manifest, dataset, lake)

    champion_until = champion.manifest.data.until if champion else None
    held_out = hold_out(
        dataset,
        signals,
        _rested(dataset, signals, weights),
        champion_until,
        settings,
        PROFILES[job.profile].ranking_queries,
        onset,
    )
    report.stage("fitting the challenger", 0.02, 0.85)
    known = _log(dataset, held_out.fit, weights)
    everything = _log(dataset, signals, weights)
    # What is met in the test alone is new to the challenger, too.
    learned, met = encoding.of_met_items(known)
    item_ids = [dataset.item_ids[item] for item in met]
    terms = item_terms(describe(dataset.item_ids, dataset.attributes))
    served_on = TrainingData(everything, terms)
    challenger = _fit(
        dataset, learned, item_ids, job, weights, champion, keeps, report, served_on=served_on
    )

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
        dataset,
        settings.seed,
        report,
    )
    figures = judgement.figures()
    metrics = flat(figures)
    report.output(**{name: value for name, value in metrics.items() if "/" not in name})
    shown = samples(
        queries, judgement.cohorts, challenger, champion, dataset.attributes, settings.seed
    )

    report.stage("fitting on everything", 0.92, 0.97)
    if challenger.manifest.metrics.validation is not None:
        shipped = refit(
            challenger,
            everything,
            dataset.item_ids,
            dataset.attributes,
            checkpoints=job.checkpoints,
            progress=report.step,
        )
    else:  # too little to choose parameters by; with all of the data there may be enough
        shipped = _fit(
            dataset,
            everything,
            dataset.item_ids,
            job,
            weights,
            champion,
            keeps,
            report,
            served_on=None,
        )
    report.stage("saving the bundle", 0.97, 0.99)
    manifest = shipped.manifest.model_copy(
        update={
            "code_commit": program["code_commit"],
            "lake_version": dataset.lake_version,
            "oldest_lake_version": champion.manifest.learned_from
            if keeps and champion is not None and _kept(champion.manifest, shipped.manifest)
            else dataset.lake_version,
            "metrics": shipped.manifest.metrics.model_copy(
                update={**metrics, "intervals": intervals(figures)}
            ),
            "features": list(RECOMMENDER.of(VISITOR)),
        }
    )
    saved = save_bundle(replace(shipped, manifest=manifest), job.output)
    report.finish()
    return TrainingResult(
        lake_version=dataset.lake_version,
        catalog_version=dataset.catalog_version,
        data_sha256=dataset.digest(),
        code_commit=program["code_commit"],
        environment=environment(),
        metrics=metrics,
        figures=figures,
        parameters=dict(manifest.parameters),
        measured=judgement.measurements(
            sum(file.bytes for file in saved.files.values()),
            onset,
            sum(query.listed for query in queries),
        ),
        samples=shown,
        scripted=dataset.scripted,
        champion_version=job.champion_version,
        champion_error=champion_error,
        seconds=report.seconds,
        peak_memory_mb=round(peak_memory_mb(), 1),
    )


def _fit(
    dataset: Dataset,
    log: InteractionLog,
    item_ids: list[str],
    job: Job,
    weights: EventWeights,
    champion: Bundle | None,
    keeps: bool,
    report: ProgressReporter,
    *,
    served_on: TrainingData | None,
) -> Bundle:
    options = FitOptions(
        version=job.version,
        profile=job.profile,
        seed=job.training.seed,
        event_weights=weights,
        start_from=champion,
        keeps=keeps,
        served_on=served_on,
        checkpoints=job.checkpoints,
        onset=job.onset if champion else None,
        search_s=60 * job.training.search_minutes if job.profile == "best" else 0.0,
    )
    return fit_log(log, item_ids, dataset.attributes, options, report.step)


def _log(dataset: Dataset, rows: NDArray[np.bool_], weights: EventWeights) -> InteractionLog:
    """The log of the signals of these rows, with the lists shown up to the last of them."""
    times = dataset.interactions["timestamp"].to_numpy()
    shown = pc.equal(dataset.interactions["event_type"], IMPRESSION).to_numpy() & (
        times <= times[rows].max(initial=0)
    )
    return encoding.encode(
        dataset.interactions.filter(pa.array(rows | shown)), dataset.item_ids, weights
    )


def _rested(
    dataset: Dataset, signals: NDArray[np.bool_], weights: EventWeights
) -> NDArray[np.bool_]:
    """Mask of the signals on an item that rested (`of_resting`)."""
    table = dataset.interactions.filter(pa.array(signals))
    rows = np.flatnonzero(signals)[encoding.log_rows(table, dataset.item_ids, weights)]
    rested = np.zeros(len(signals), np.bool_)
    rested[rows] = of_resting(encoding.encode(table, dataset.item_ids, weights))
    return rested


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
    dataset: Dataset,
    seed: int,
    report: ProgressReporter,
) -> Judgement:
    contestants = {CHALLENGER: challenger, POPULARITY: popularity_of(challenger)} | (
        {CHAMPION: champion} if champion else {}
    )
    report.stage("judging", 0.85, 0.92)
    catalogue = dataset.item_ids, dataset.attributes
    return judge(contestants, queries, past, *catalogue, seed, report.step)


def _may_keep(champion: Manifest, dataset: Dataset, lake: Lake) -> bool:
    """Whether the champion's blend and ranker may be kept.

    Not where they were fitted on visitors who were erased since, nor where they are of another
    lake.
    """
    learned_from = champion.learned_from
    return (
        learned_from is not None
        and learned_from <= dataset.lake_version
        and Erasures(lake).first_after(champion) is None
    )


def _kept(champion: Manifest, shipped: Manifest) -> bool:
    """Whether the shipped bundle has the champion's blend and ranker."""
    until = champion.parameters.get("chosen_until")
    return until is not None and until == shipped.parameters.get("chosen_until")


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
