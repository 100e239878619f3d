"""The makers of a variant's slates: model versions, substitutes, and how long they took."""

from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import NamedTuple

from pydantic import BaseModel


class Latency(BaseModel):
    """Latencies of the newest slates of a variant, in ms; null without any."""

    slates: int
    mean: float | None
    p99: float | None


class Makers(NamedTuple):
    """The models that made a variant's slates, by version, and why the champion made others."""

    models: Mapping[str, int] = MappingProxyType({})
    substituted: Mapping[str, int] = MappingProxyType({})
    latencies: Sequence[float] = ()


def latency(latencies: Sequence[float]) -> Latency:
    """The mean and the 99th percentile of latencies."""
    if not latencies:
        return Latency(slates=0, mean=None, p99=None)
    mean = sum(latencies) / len(latencies)
    return Latency(slates=len(latencies), mean=mean, p99=percentile(latencies, 0.99))


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]
