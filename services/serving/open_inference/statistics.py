"""Statistics of inference in this process, by version of the model.

Source: extension_statistics.md of https://github.com/triton-inference-server/server.
"""

from collections import Counter
from typing import Any, Final

from services.serving.open_inference.descriptions import NAME
from slipstream.contracts.times import now_ms

# Versions that are kept: the one in service and those before it.
_KEPT: Final = 2
_STAGES: Final = ("compute_input", "compute_infer", "compute_output")


class Statistics:
    """Counts and durations of inference requests. Used in one event loop."""

    def __init__(self) -> None:
        self._versions: dict[str, _VersionStatistics] = {}

    def succeeded(self, version: str, visitors: int, stages_ns: tuple[int, int, int]) -> None:
        """Count an answered request.

        Args:
            version: The model's version in service.
            visitors: The number of visitors in the request.
            stages_ns: Nanoseconds of reading the request, of answering, and of writing the answer.
        """
        of_version = self._of(version)
        of_version.last_inference = now_ms()
        of_version.requests[visitors] += 1
        for stage, spent_ns in zip(_STAGES, stages_ns, strict=True):
            of_version.spent_ns[stage, visitors] += spent_ns

    def failed(self, version: str, spent_ns: int) -> None:
        """Count a request that was refused or failed, with the nanoseconds that it took."""
        of_version = self._of(version)
        of_version.failures += 1
        of_version.failed_ns += spent_ns

    def described(self, version: str = "") -> dict[str, Any]:
        """The statistics of one version, or of all that are kept, as the protocol has them."""
        wanted = {version: self._of(version)} if version else self._versions
        return {"model_stats": [each.described(name) for name, each in wanted.items()]}

    def _of(self, version: str) -> "_VersionStatistics":
        # The version requested last stands last.
        kept = self._versions.pop(version, None) or _VersionStatistics()
        while len(self._versions) >= _KEPT:
            del self._versions[next(iter(self._versions))]
        self._versions[version] = kept
        return kept


class _VersionStatistics:
    """What one version did. Requests are counted by their number of visitors."""

    def __init__(self) -> None:
        self.last_inference = 0
        self.requests: Counter[int] = Counter()
        self.spent_ns: Counter[tuple[str, int]] = Counter()
        self.failures = self.failed_ns = 0

    def described(self, version: str) -> dict[str, Any]:
        count = self.requests.total()
        stages = {stage: _duration(count, self._spent(stage)) for stage in _STAGES}
        return {
            "name": NAME,
            "version": version,
            "last_inference": self.last_inference,
            "inference_count": sum(size * times for size, times in self.requests.items()),
            "execution_count": count,
            "inference_stats": {
                "success": _duration(count, sum(self.spent_ns.values())),
                "fail": _duration(self.failures, self.failed_ns),
                "queue": _duration(0, 0),
                **stages,
                "cache_hit": _duration(0, 0),
                "cache_miss": _duration(0, 0),
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    **{stage: _duration(times, self.spent_ns[stage, size]) for stage in _STAGES},
                }
                for size, times in sorted(self.requests.items())
            ],
        }

    def _spent(self, stage: str) -> int:
        return sum(spent for (of_stage, _), spent in self.spent_ns.items() if of_stage == stage)


def _duration(count: int, spent_ns: int) -> dict[str, int]:
    return {"count": count, "ns": spent_ns}
