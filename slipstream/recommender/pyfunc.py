"""Loader of a bundle for MLflow: `mlflow.pyfunc.load_model("models:/recommender@champion")`.

The bundle's file `MLmodel` names this module. It needs the pandas that comes with MLflow.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import VIEW
from slipstream.features.visitor import SEQUENCE_LENGTH
from slipstream.recommender.bundle import DEFAULT_N, Bundle, load_bundle
from slipstream.recommender.stages import AnyEvent, answers, list_question, resting

MOST_ITEMS: Final = 1_000
# Histories of one call of the kernels.
_AT_ONCE: Final = 256
_MINUTE_MS: Final = 60_000


class PyfuncModel:
    """A bundle with the method that MLflow calls."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Lists for histories: the model's alone, without a catalogue's rules and fallbacks.

        Args:
            model_input: A data frame with a row for each history. `items` has the ids of its items,
                oldest first; `event_types` their types (`view` where missing), `timestamps` their
                times in ms (a minute apart until now where missing).
            params: `n`, the length of a list, 1 to 1000.

        Returns:
            A data frame with the same index, and the lists `items` and `scores`, best first.

        Raises:
            ValueError: `n` is out of range, or the lists of a row differ in length.
        """
        n = int((params or {}).get("n", DEFAULT_N))
        if not 1 <= n <= MOST_ITEMS:
            raise ValueError(f"n must be 1 to {MOST_ITEMS}, not {n}")
        now = now_ms()
        columns = [
            model_input[name] if name in model_input else [None] * len(model_input)
            for name in ("items", "event_types", "timestamps")
        ]
        rows = zip(model_input.index, *columns, strict=True)
        histories = [_history(row, items, types, times, now) for row, items, types, times in rows]
        questions = [
            list_question(self.bundle, each, n, exclude=resting(self.bundle, each, now).bought)
            for each in histories
        ]
        lists = [
            found
            for begin in range(0, len(questions), _AT_ONCE)
            for found in answers(self.bundle, questions[begin : begin + _AT_ONCE])
        ]
        made = model_input[[]].copy()
        made["items"] = [[one.item_id for one in found] for found in lists]
        made["scores"] = [[one.score for one in found] for found in lists]
        return made


def _history(row: Any, items: Any, types: Any, times: Any, now: int) -> list[AnyEvent]:
    """The newest events of a row, as serving would have them of the online store."""
    ids = [str(item) for item in _cells(items)]
    event_types = [str(one) for one in _cells(types)] or [VIEW] * len(ids)
    timestamps = [int(one) for one in _cells(times)] or [
        now - _MINUTE_MS * age for age in range(len(ids) - 1, -1, -1)
    ]
    if not len(ids) == len(event_types) == len(timestamps):
        raise ValueError(f"row {row}: items, event_types and timestamps must have equal lengths")
    newest = slice(-SEQUENCE_LENGTH, None)
    events = zip(ids[newest], event_types[newest], timestamps[newest], strict=True)
    return [(*event, None) for event in events]


def _cells(value: Any) -> Sequence[Any]:
    """The list of a cell; empty for a null, which a data frame may have as NaN."""
    return () if value is None or isinstance(value, float) else value


def _load_pyfunc(path: str) -> PyfuncModel:
    """The model in a folder. MLflow calls it by this name."""
    return PyfuncModel(load_bundle(path))
