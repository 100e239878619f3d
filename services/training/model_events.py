"""Making of model events."""

from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.contracts.times import now_ms


def event_of(
    kind: ModelEventType,
    version: str,
    alias: str | None,
    *,
    previous: str | None = None,
    reason: str = "",
    metrics: dict[str, float] | None = None,
) -> ModelEvent:
    """An event that happens now.

    Args:
        kind: What happened.
        version: The version that it is about.
        alias: The alias that moved, if any.
        previous: The version that the alias pointed at.
        reason: The cause in words.
        metrics: Figures of the version.
    """
    return ModelEvent(
        event=kind,
        version=version,
        alias=alias,
        previous=previous,
        reason=reason,
        metrics=metrics or {},
        timestamp=now_ms(),
    )
