"""Measurements of benchmarks, as a table and as JSON, and the machine that they are from."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import orjson


class BenchmarkError(RuntimeError):
    """A benchmark did not measure what it is meant to; the text says why.

    Requests failed, answers were not of the kind that counts, or events were lost.
    """


class Measurement(TypedDict, total=False):
    """A measured figure. Keys that do not apply are left out.

    `ratio` is `value / ceiling`, both in `unit`. `note` says what the ceiling is, and what was
    checked.
    """

    name: str
    value: float
    unit: str
    ceiling: float
    ratio: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    note: str


def percentiles(latencies_ms: Sequence[float]) -> Measurement:
    """The percentiles of latencies, for a row; NaN without any."""
    p50, p90, p95, p99 = np.percentile(latencies_ms or [np.nan], (50, 90, 95, 99)).tolist()
    return Measurement(p50_ms=p50, p90_ms=p90, p95_ms=p95, p99_ms=p99)


def machine() -> dict[str, Any]:
    """Describe this machine: processor, usable cores, memory, system, Python, present load."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return {
        "cpu": _cpu_model(),
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def write_json(
    path: str | Path, rows: Sequence[Measurement], servers: str, where: dict[str, Any]
) -> None:
    """Write `{"machine": …, "servers": …, "results": […]}`, figures rounded to four digits.

    Args:
        where: The `machine` before the benchmark.
    """
    results = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]
    body = {"machine": where, "servers": servers, "results": results}
    Path(path).write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n")


def table(rows: Sequence[Measurement]) -> str:
    """Format rows for a terminal, a line each, with its note below."""
    heads = ("", "value", "unit", "ceiling", "ratio", "p50 ms", "p90 ms", "p95 ms", "p99 ms")
    keys = ("name", "value", "unit", "ceiling", "ratio", "p50_ms", "p90_ms", "p95_ms", "p99_ms")
    cells = [list(heads), *([_cell(row.get(key)) for key in keys] for row in rows)]
    used = [index for index in range(len(keys)) if any(line[index] for line in cells[1:])]
    widths = {index: max(len(line[index]) for line in cells) for index in used}
    lines = []
    for number, line in enumerate(cells):
        text = (line[i].ljust(widths[i]) if i in (0, 2) else line[i].rjust(widths[i]) for i in used)
        lines.append("  ".join(text).rstrip())
        if number and (note := rows[number - 1].get("note")):
            lines.append(f"    {note}")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    number = float(str(value))
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
