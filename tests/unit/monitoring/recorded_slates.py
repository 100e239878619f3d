"""Slates as serving records them, with the circumstances that drift is read from."""

from collections.abc import Sequence
from typing import Any

from slipstream.contracts.circumstances import RecordedHistory
from slipstream.contracts.events import Slate, SlateItem
from slipstream.contracts.slates import RecordedSlate
from tests.unit.monitoring.builders import recorded

Event = tuple[str, str, int, float | None]


def history_of(items: str, until: int, every_ms: int = 60_000) -> list[Event]:
    """Views of items, one a letter; the last one at `until` (ms)."""
    first = until - (len(items) - 1) * every_ms
    return [(item, "view", first + n * every_ms, None) for n, item in enumerate(items)]


def made_of(
    slate_id: str,
    at: int,
    history: Sequence[Event] = (),
    items: Sequence[str] = tuple("abc"),
    *,
    user: str = "u1",
    source: str = "ease",
    scores: Sequence[float] = (3.0, 2.0, 1.0),
    circumstances: dict[str, Any] | None = None,
    **more: Any,
) -> RecordedSlate:
    """A slate of a personal request at a time (ms), made from this history."""
    inputs: dict[str, Any] = {"form": 1, "now": at, "n": 10, "steps": ["model", "trending"]}
    if history:
        inputs["history"] = RecordedHistory.columns(history)
    values: dict[str, Any] = {"answered_by": "model", "model_version": "1", "placement": "home"}
    return recorded(
        Slate(
            recommendation_id=slate_id,
            user_id=user,
            timestamp=at,
            items=[
                SlateItem(item_id=item, score=score, source=source)
                for item, score in zip(items, scores, strict=False)
            ],
            circumstances=inputs | (circumstances or {}),
            **(values | more),
        )
    )
