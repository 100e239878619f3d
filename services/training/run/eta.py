"""When a run will have ended, as far as that can be told."""

from collections.abc import Mapping

# Less than this says nothing about the rest.
_LEAST_SHARE, _LEAST_S = 0.1, 5.0


class Eta:
    """Estimates how long a run still takes, by how far it is and, where there is one, by how long
    the stages of an earlier run of its profile took. `past` has the seconds of these, in their
    order; times are seconds of one clock.
    """

    def __init__(self, past: Mapping[str, float], now: float) -> None:
        self._past, self._began = past, now
        self._stage, self._since = "", now
        self._took: dict[str, float] = {}

    def left_s(self, stage: str, progress: float, done: float | None, now: float) -> float | None:
        """Seconds to the end of the run, which is at `progress` as a whole and has done so much of
        its stage; None when that can't be told. Is told of each stage as it begins.
        """
        if stage != self._stage:
            if self._stage:
                self._took[self._stage] = now - self._since
            self._stage, self._since = stage, now
        if stage in self._past:
            return self._by_stages(now - self._since, done)
        return (now - self._began) * (1 - progress) / progress if progress >= _LEAST_SHARE else None

    def _by_stages(self, elapsed: float, done: float | None) -> float:
        """What is left of the stage, and the later ones at the pace that this run has had so far."""
        took = dict(self._took)
        if done is not None and done >= _LEAST_SHARE and elapsed >= _LEAST_S:
            took[self._stage] = elapsed / done
        then = sum(self._past.get(name, 0.0) for name in took)
        pace = (
            sum(took[name] for name in took if name in self._past) / then
            if then >= _LEAST_S
            else 1.0
        )
        names = list(self._past)
        later = sum(self._past[name] for name in names[names.index(self._stage) + 1 :])
        whole = took.get(self._stage, self._past[self._stage] * pace)
        return max(whole - elapsed, 0.0) + later * pace
