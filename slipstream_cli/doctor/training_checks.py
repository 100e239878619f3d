"""Checks of training: the model in service, the gate's last decision, and the queue of runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from slipstream.contracts.rest import ModelVersion, Run
from slipstream.contracts.times import DAY_MS, HOUR_MS, format_duration
from slipstream_cli.doctor.event_figures import EventFigures
from slipstream_cli.doctor.findings import Finding, Weight, counted, share

# Queued runs from which on somebody asks faster than training works.
_QUEUE: Final = 2
_OLD_MS: Final = 30 * DAY_MS
_FEW_QUERIES: Final = 200
_FEW_EVENTS: Final = 1_000
_FEW_ITEMS: Final = 20
_SHORT_HISTORY: Final = 3
_HEAVY: Final = 0.4


@dataclass(frozen=True, slots=True)
class TrainingFigures:
    """Training's answers.

    Attributes:
        champion: The model in service; None where there is none.
        runs: The latest runs, newest first.
        numbers: The numbers of the gate's decision about the latest run that it judged.
    """

    champion: ModelVersion | None = None
    runs: list[Run] = field(default_factory=list)
    numbers: Mapping[str, float] = field(default_factory=dict)


def check_training(
    figures: TrainingFigures, events: EventFigures, now_ms: int
) -> Iterator[Finding]:
    """Judge the model in service and the runs.

    Args:
        figures: Training's answers.
        events: Figures of the newest events, which explain a model that learns nothing.
        now_ms: The present time.
    """
    yield from _last_run(figures)
    yield from _no_model(figures, events)
    yield from _unbeaten_popularity(figures, events)
    yield from _queue(figures, now_ms)
    if figures.champion and now_ms - figures.champion.created_at > _OLD_MS:
        days = (now_ms - figures.champion.created_at) // DAY_MS
        yield Finding(
            "old_model",
            Weight.NOTE,
            f"the model in service is {days} days old",
            "it knows neither the items nor the habits since",
            "slipstream runs list says why newer ones were refused; slipstream runs start",
        )


def _last_run(figures: TrainingFigures) -> Iterator[Finding]:
    ended = [run for run in figures.runs if run.finished_at is not None and not run.resumed_by]
    if ended and ended[0].state == "failed":
        yield Finding(
            "run_failed",
            Weight.WARNING,
            f"the last run, {ended[0].run_id}, has failed: {ended[0].error or 'without a reason'}",
            "the model is not renewed",
            f"slipstream runs show {ended[0].run_id}",
        )


def _no_model(figures: TrainingFigures, events: EventFigures) -> Iterator[Finding]:
    if figures.champion is not None or not events.sampled:
        return
    judged = _judged(figures)
    yield Finding(
        "no_model",
        Weight.WARNING,
        f"no model is in service, and the lake has {events.total:,} events"
        + (f"; the gate refused {judged.run_id}: {judged.decision_reason}" if judged else ""),
        "visitors get similar or trending items",
        f"slipstream runs show {judged.run_id} (docs/runbook/challenger-refused.md)"
        if judged
        else "slipstream runs start --follow",
    )


def _unbeaten_popularity(figures: TrainingFigures, events: EventFigures) -> Iterator[Finding]:
    numbers, judged = figures.numbers, _judged(figures)
    low = numbers.get("popularity/difference_low")
    if judged is None or low is None or low > 0:
        return
    figure = (
        f"model {judged.run_id} is not surely better than popularity: NDCG@10"
        f" {numbers['popularity/challenger']:.4f} against {numbers['popularity/other']:.4f}"
        f" on {numbers['popularity/queries']:,.0f} queries"
    )
    reasons = list(_reasons(numbers, events))
    yield Finding(
        "popularity_unbeaten",
        Weight.WARNING,
        figure,
        "lists for one visitor are no better than one list for all: "
        + ("; ".join(reasons) if reasons else "the events don't say why"),
        f"slipstream runs report {judged.run_id} --open (docs/runbook/challenger-refused.md)",
    )


def _reasons(numbers: Mapping[str, float], events: EventFigures) -> Iterator[str]:
    """Causes that the figures show, for a model that learns nothing from the events."""
    if numbers["popularity/queries"] < _FEW_QUERIES:
        yield f"{numbers['popularity/queries']:,.0f} queries can't tell a small difference"
    if events.total < _FEW_EVENTS:
        yield f"{counted(events.total, 'event')} in all are few"
    if histories := events.histories:
        short = sum(1 for length in histories.values() if length < _SHORT_HISTORY)
        if short > len(histories) / 2:
            yield f"{share(short, len(histories), 'visitors')} have fewer than 3 events"
        heaviest = max(histories.values())
        if heaviest >= _HEAVY * sum(histories.values()) and len(histories) > 1:
            yield f"one visitor has {share(heaviest, sum(histories.values()), 'events')}"
    if 0 < len(events.items) < _FEW_ITEMS:
        yield f"{len(events.items)} items leave little to choose"


def _queue(figures: TrainingFigures, now_ms: int) -> Iterator[Finding]:
    queued = [run for run in figures.runs if run.state == "queued"]
    running = [run for run in figures.runs if run.state == "running"]
    oldest = min((run.created_at for run in queued), default=now_ms)
    if len(queued) >= _QUEUE or (queued and not running and now_ms - oldest > HOUR_MS):
        behind = f" behind {running[0].run_id} ({running[0].progress:.0%})" if running else ""
        yield Finding(
            "queue_of_runs",
            Weight.WARNING,
            f"{counted(len(queued), 'run')} in the queue{behind}, the oldest for"
            f" {format_duration((now_ms - oldest) / 1000)}",
            "a new model comes after all of them",
            "slipstream runs list; slipstream runs cancel RUN",
        )


def _judged(figures: TrainingFigures) -> Run | None:
    """The latest run that the gate has judged."""
    return next((run for run in figures.runs if run.decision), None)
