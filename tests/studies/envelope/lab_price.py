"""Cost and gain of forward error correction over real sockets, beside the simulator.

    python -m tests.studies.envelope.price --lab [--seconds 30] [--minutes 30] [--name fec-price-lab]

The path and the messages are those of tests/studies/envelope/price.py, here with echoes: `iperfpy latency`
runs over `iperfpy lab`, and the simulator runs the same ends over the same path. A figure is of round trips,
so of both directions; the path itself takes 170 ms. Overhead is the growth of all bytes that the asking end
sent, with the headers of IP and UDP. A run with a late relay or client is repeated, and marked if there is
no other.

A run that was stopped continues: results/NAME.jsonl has every finished run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from tests.studies.latency_check.message_agreement import LAB, SIMULATOR
from tests.studies.latency_check.message_paths import MessagePath
from tests.studies.latency_check.message_runs import in_lab, simulated
from tests.studies.machine import go_first
from tests.studies.record import append_line, read_lines, write_table
from tests.studies.table import Table

KEYS = ("kind", "loss", "fec", "instrument", "seconds")
REPEATS = 2
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PricePath(MessagePath):
    """The path of the study. `loss`: of each way."""

    @property
    def text(self) -> str:
        """The path for the lab, and for the simulator."""
        return f"both:20M,delay=85ms,queue=1bdp,loss={100 * self.loss:g}"


def measure(kind: str, loss: float, fec: str, instrument: str, seconds: float) -> dict[str, Any]:
    """One run. One of the lab is repeated if the machine was late; the last one is kept as it is."""
    path, transport = PricePath(loss), kind if fec == "off" else f"{kind}:fec={fec}"
    if instrument == SIMULATOR:
        return simulated(path, transport, seconds, 1)
    go_first()
    for left in reversed(range(REPEATS + 1)):
        figures = in_lab(path, transport, seconds, 1)
        if not (figures["unclean"] or figures.get("error")) or not left:
            break
        print(f"once more: {figures}", file=sys.stderr, flush=True)
    return figures


def run_all(
    jobs: Sequence[tuple[str, float, str]], seconds: float, minutes: float, where: File
) -> Iterator[dict[str, Any]]:
    """The runs of the jobs (transport, loss, sets), simulations first; in the order of the record."""
    lines, until = where.with_suffix(".jsonl"), time.monotonic() + 60 * minutes
    done = {tuple(run[key] for key in KEYS): run for run in read_lines(lines) if not run.get("error")}
    for instrument in (SIMULATOR, LAB):
        for job in jobs:
            key = (*job, instrument, seconds)
            if key not in done and (not minutes or time.monotonic() < until):
                done[key] = {
                    **dict(zip(KEYS, key, strict=True)),
                    **measure(*job, instrument, seconds),
                }
                append_line(lines, done[key])
            if key in done:
                yield done[key]


def overhead_percent(run: Row, runs: Sequence[Row]) -> float | None:
    """Growth of the bytes of a run against the one without forward error correction."""
    same = ("kind", "loss", "instrument", "seconds")
    plain = [one for one in runs if one["fec"] == "off" and all(one[key] == run[key] for key in same)]
    if not plain or not plain[0].get("ip_bytes_sent") or not run.get("ip_bytes_sent"):
        return None
    return 100 * (float(run["ip_bytes_sent"]) / float(plain[0]["ip_bytes_sent"]) - 1)


def table(runs: Sequence[Row], jobs: Sequence[tuple[str, float, str]]) -> Table:
    """A row per job; each cell has the figure of the simulator and that of the lab."""
    lines = []
    for job in jobs:
        pair = [
            next((run for run in runs if (*job, name) == tuple(run[key] for key in KEYS[:4])), None)
            for name in (SIMULATOR, LAB)
        ]
        cells = [
            " / ".join("" if run is None or key not in run else f"{run[key]:.0f}" for run in pair)
            for key in ("p50", "p95", "p99")
        ]
        growth = [None if run is None else overhead_percent(run, runs) for run in pair]
        real = pair[1] or {}
        lines.append(
            (
                *(job[0], f"{100 * job[1]:g} %", job[2], *cells),
                " / ".join("" if grown is None else f"{grown:+.0f} %" for grown in growth),
                f"{real['late_p99_us'] / 1000:.1f}" if "late_p99_us" in real else "",
                real.get("error") or real.get("unclean") or ("clean" if real else "not run"),
            )
        )
    headings = (
        *("transport", "lost", "FEC", "P50 (ms)", "P95 (ms)", "P99 (ms)", "overhead", "relay late (ms)"),
        "the lab's run",
    )
    return Table(headings, lines, left=3)


def study(jobs: Sequence[tuple[str, float, str]], seconds: float, minutes: float, where: File) -> None:
    """Make the runs that the record lacks, and write the table. `minutes`: begin no run after that time, 0:
    no limit."""
    runs = list(run_all(jobs, seconds, minutes, where))
    made = table(runs, jobs)
    made.show()
    rows = [{**run, "overhead_percent": overhead_percent(run, runs)} for run in runs]
    write_table(where, made, rows)
