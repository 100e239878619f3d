"""Estimate of when a run will have ended."""

from collections.abc import Mapping

# With a smaller share done, or less time spent, there is no telling about the rest.
_LEAST_SHARE, _LEAST_S = 0.1, 5.0


class Eta:
    """Estimates the rest of a run from its progress and from an earlier run of its profile.

    Args:
        past: Seconds of each stage of the earlier run, in order; empty without one.
        now: The time at which the run begins, in seconds of any clock.
    """

    def __init__(self, past: Mapping[str, float], now: float) -> None:
        self._past, self._began = past, now
        self._stage, self._since = "", now
        self._took: dict[str, float] = {}

    def left_s(self, stage: str, progress: float, done: float | None, now: float) -> float | None:
        """Seconds to the end of the run; None without enough to estimate by.

        To be called as each stage begins.

        Args:
            stage: The present stage.
            progress: Share of the whole run that is done.
            done: Share of the stage that is done; None where it is not known.
            now: The present time in seconds of the clock.
        """
        if stage != self._stage:
            if self._stage:
                self._took[self._stage] = now - self._since
            self._stage, self._since = stage, now
        if stage in self._past:
            return self._by_stages(now - self._since, done)
        return (now - self._began) * (1 - progress) / progress if progress >= _LEAST_SHARE else None

    def _by_stages(self, elapsed: float, done: float | None) -> float:
        """The rest of the stage, and the later stages at the pace of this run so far."""
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
