"""The experiment of a placement at a moment, and the models that experiments need."""

from collections.abc import Mapping
from typing import Final

from services.serving.topic_states.book import StateBook
from slipstream.contracts.experiments import Experiment

# Time before an experiment's start at which its models are wanted (ms).
AHEAD_MS: Final = 60_000


class ExperimentBook(StateBook[Experiment]):
    """The newest state of each experiment, and which are about a placement.

    Used as `StateBook`; `of` in the event loop alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._indexed = 0
        self._by_placement: dict[str, list[Experiment]] = {}

    def of(self, placement: str, now_ms: int) -> Experiment | None:
        """The experiment that counts for a placement at this time; None where none does.

        Monitoring lets at most one count. While its records arrive there may be two for a moment:
        the first by name is taken then.
        """
        if self._indexed != self.revision:
            self._indexed = self.revision
            self._by_placement = _by_placement(self.states)
        for experiment in self._by_placement.get(placement, ()):
            if experiment.design.counts(now_ms):
                return experiment
        return None

    def models(self, now_ms: int) -> list[str]:
        """The models that variants name, of experiments that count now or soon, each once.

        Safe from any thread.
        """
        return list(
            dict.fromkeys(
                variant.model
                for _, experiment in sorted(self.states.items())
                if experiment.design.counts(now_ms) or experiment.design.counts(now_ms + AHEAD_MS)
                for variant in experiment.design.variants
                if variant.model
            )
        )


def _by_placement(experiments: Mapping[str, Experiment]) -> dict[str, list[Experiment]]:
    found: dict[str, list[Experiment]] = {}
    for name in sorted(experiments):
        for placement in experiments[name].design.placements:
            found.setdefault(placement, []).append(experiments[name])
    return found
