"""The counters of a run: per direction by cause, and how well this machine kept to the path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from iperfpy.lab.lateness import Lateness
from iperfpy.protocols.simulator.truth import Truth
from iperfpy.protocols.units import counted

DIRECTIONS = ("near_to_far", "far_to_near")
_CAUSES = {
    "overflowed": "found the queue full",
    "codel": "dropped by CoDel",
    "policed": "dropped by the policer",
    "lost": "lost at random",
    "outage": "lost in an outage",
    "too_long": "longer than maxlen",
}
_UNFINISHED = {"on_the_way": "on the way at the end"}
_EFFECTS = {"duplicated": "sent twice", "corrupted": "corrupted", "reordered": "sent out of order"}


@dataclass(frozen=True, slots=True)
class RunReport:
    """The counters at the end of a run.

    header_bytes : bytes of a row beside those of the packet
    unclean : the reason why this machine did not keep to the path; empty if it did
    log_errors : the reasons why logs are not complete
    """

    path: str
    seed: int
    seconds: float
    status: int
    truths: tuple[Truth, Truth]
    header_bytes: int
    late: Lateness
    unclean: str
    log_errors: tuple[OSError, ...] = ()

    def document(self) -> dict[str, Any]:
        """The report as plain values. Counts are of packets, bytes of IP packets, times in microseconds."""
        return {
            "path": self.path,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "status": self.status,
            **dict(zip(DIRECTIONS, map(self._direction, self.truths), strict=True)),
            "late_us": {
                "p50": self.late.quantile_us(0.5),
                "p99": self.late.quantile_us(0.99),
                "max": round(self.late.most_us, 1),
            },
            "clean": not self.unclean,
            "unclean": self.unclean,
        }

    def _direction(self, truth: Truth) -> dict[str, Any]:
        causes = {name: getattr(truth, name) for name in (*_CAUSES, *_EFFECTS)}
        return {
            "sent": truth.sent,
            "sent_bytes": truth.sent_bytes - truth.sent * self.header_bytes,
            "delivered": truth.delivered,
            "delivered_bytes": truth.delivered_bytes - truth.delivered * self.header_bytes,
            **causes,
            "on_the_way": truth.on_the_way,
            "queue_mean_us": round(truth.mean_queue_us, 1),
            "queue_max_us": round(truth.longest_us, 1),
        }

    def lines(self) -> Iterator[str]:
        """The report as text."""
        counters = {**_CAUSES, **_UNFINISHED, **_EFFECTS}
        yield f"lab: {self.path}, seed {self.seed}, {self.seconds:.1f} s"
        for name, truth in zip(DIRECTIONS, self.truths, strict=True):
            figures = self._direction(truth)
            parts = [
                f"{counted(figures['sent'], 'packet')}, {figures['sent_bytes'] / 1e6:.2f} MB",
                f"{figures['delivered']} delivered",
                *(f"{figures[key]} {text}" for key, text in counters.items() if figures[key]),
            ]
            if truth.queued:
                mean_ms, most_ms = figures["queue_mean_us"] / 1e3, figures["queue_max_us"] / 1e3
                parts.append(f"queue {mean_ms:.1f} ms mean, {most_ms:.1f} ms at most")
            yield f"  {name.replace('_', ' ')}: {'; '.join(parts)}"
        late = self.document()["late_us"]
        kept = f"NOT CLEAN: {self.unclean}" if self.unclean else "clean"
        yield f"  late: {late['p50'] / 1e3:.2f} ms p50, {late['p99'] / 1e3:.2f} ms p99; {kept}"
