"""Metrics of a service's processes as one: what counts is added up.

A process that is killed takes its counts along, and its successor counts from 0. Prometheus takes
the smaller sum for a new start, and so counts once more what the other processes had counted.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import httpx

from slipstream.chassis.errors import UnavailableError
from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

# Longest wait for a process's metrics.
LIMIT_S: Final = 2.0
# Gauges that are added up, too. Of others, the greatest counts.
_ADDED_GAUGES: Final = frozenset(
    {"process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"}
)


async def read_all(siblings: Sequence[str]) -> str:
    """The metrics of all processes, in Prometheus' text format.

    Args:
        siblings: Addresses of the processes, this one's among them.

    Raises:
        UnavailableError: A process does not answer. Sums without it would be smaller than those
            before, which Prometheus takes for a new start, and adds once more.
    """

    async def read(client: httpx.AsyncClient, url: str) -> str:
        try:
            return (await client.get(f"{url}/metrics?process=own")).raise_for_status().text
        except httpx.HTTPError as error:
            log.warning("a process of the service tells no metrics", url=url, reason=str(error))
            raise UnavailableError(
                "A process of this service tells no metrics; ask again", code="metrics_incomplete"
            ) from error

    # Plain HTTP on this machine: `verify` would load certificates at each look.
    async with httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, verify=False) as client:  # noqa: S501
        return added_up(await asyncio.gather(*(read(client, url) for url in siblings)))


def added_up(texts: Iterable[str]) -> str:
    """Add up several texts in Prometheus' format, in the order in which samples first come.

    Counters and histograms are added; of gauges the greatest value counts, save for the memory and
    the files of a process.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, float]] = {}
    for text in texts:
        family, is_gauge = "", False
        for line in text.splitlines():
            if line.startswith("# "):
                _, word, family, *_ = line.split(" ", 3)
                is_gauge = line.endswith(" gauge") and family not in _ADDED_GAUGES
                if family not in heads or word not in {
                    head.split(" ")[1] for head in heads[family]
                }:
                    heads.setdefault(family, []).append(line)
            elif line:
                name, _, value = line.rpartition(" ")
                known = samples.setdefault(family, {})
                if is_gauge:
                    known[name] = max(known.get(name, float(value)), float(value))
                else:
                    known[name] = known.get(name, 0.0) + float(value)
    lines = [
        line
        for family, head in heads.items()
        for line in (
            *head,
            *(f"{name} {_text(value)}" for name, value in samples.get(family, {}).items()),
        )
    ]
    return "\n".join([*lines, ""])


def _text(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text := repr(value), text)
