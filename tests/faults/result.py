"""What a fault test did and found, as a table and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from tests.faults.case import Case
from tests.faults.reckoning import Findings


@dataclass
class Result:
    """What was done and what was found. `servers` with their versions, `kills` by name, `figures`
    of client and stores.
    """

    case: Case
    servers: str
    kills: dict[str, int]
    slowest_restart_s: float
    figures: dict[str, int]
    findings: Findings

    @property
    def faults(self) -> list[str]:
        """What is wrong, in words; empty when everything is exact."""
        return list(self.findings.lines())

    def table(self) -> str:
        figures, wrong = self.figures, self.findings.wrong
        others = [faults for kind, faults in wrong.items() if kind not in ("lost", "double")]
        rows = [
            ("servers", self.servers),
            ("kills", ", ".join(f"{name} ×{count}" for name, count in sorted(self.kills.items()))),
            ("down at most", f"{self.slowest_restart_s:.1f} s until {self._recovery}"),
            (
                "under load",
                f"{figures['seconds']:,} s, "
                f"{figures['events'] / max(1, figures['seconds']):.0f} events/s",
            ),
            ("messages sent", f"{figures['messages']:,} that make {figures['events']:,} events"),
            (
                "acknowledged",
                f"{figures['acknowledged']:,} messages, {figures['events_due']:,} events",
            ),
            ("of them as duplicates", f"{figures.get('duplicate', 0):,} messages"),
            (
                "sent again",
                f"{figures.get('retried_messages', 0):,} messages "
                f"in {figures.get('retried_requests', 0):,} requests",
            ),
            ("answers thrown away", f"{figures.get('answers_lost', 0):,} requests"),
            (
                "on the topic",
                f"{figures['records_on_topic']:,} records, "
                f"{figures['repeats_on_topic']:,} of them repeats",
            ),
            ("marked as maybe repeats", f"{figures['marked_maybe_repeat']:,} records"),
            ("in the lake", f"{figures['rows_in_lake']:,} rows"),
            (
                "in Redis",
                f"{figures['visitors']:,} visitors, {figures['visitors_merged']:,} merged, "
                f"{figures['items']:,} items",
            ),
            (
                "lists in the experiment",
                f"{figures['lists_answered']:,} answered, "
                f"{figures.get('lists_in_experiment', 0):,} in the lake",
            ),
            ("training runs", ", ".join(self._runs()) or "none"),
            ("lost", f"{len(wrong.get('lost', ())):,}"),
            ("double", f"{len(wrong.get('double', ())):,}"),
            (
                "anything else wrong",
                f"{sum(map(len, others)):,}",
            ),
        ]
        return "\n".join(f"{name:<24} {value}" for name, value in rows)

    @property
    def _recovery(self) -> str:
        return "all were ready again" if self.case.trouble else "a new process"

    def _runs(self) -> list[str]:
        prefix = "training_runs_"
        return [
            f"{count} {name.removeprefix(prefix)}"
            for name, count in self.figures.items()
            if name.startswith(prefix) and count
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "case": asdict(self.case),
            "servers": self.servers,
            "kills": self.kills,
            "slowest_restart_s": round(self.slowest_restart_s, 2),
            "figures": self.figures,
            "wrong": {
                kind: {"count": len(found), "such_as": found[:20]}
                for kind, found in self.findings.wrong.items()
            },
        }
