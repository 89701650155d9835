"""One run of messages in each instrument: the figures of their round trips."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from iperfpy.experiments.contender import contenders_of
from tests.studies.latency_check.message_ends import exchange
from tests.studies.latency_check.message_paths import PER_S, SIZE_BYTES, MessagePath
from tests.studies.machine import ROOT
from tests.studies.paths.watched import MTU

FIGURES = ("mean", "p50", "p95", "p99")
"""Milliseconds, each."""
HELD_US = 5_000.0
"""A run whose client took the messages later than that (p99) has measured the machine, not the path."""
PATIENCE_S = 120.0
FAR = "10.77.0.2"

Figures = dict[str, Any]


def figures_of(round_trips: Iterable[float], due: int) -> Figures:
    """The figures of the answered messages, milliseconds, and the share of the due ones that was not."""
    trips = np.array(list(round_trips), np.float64)
    if not len(trips):
        return {"lost": 1.0}
    quantiles = zip(("p50", "p95", "p99"), np.percentile(trips, (50, 95, 99)), strict=True)
    found = {name: float(value) for name, value in quantiles}
    return {"mean": float(trips.mean()), **found, "lost": 1.0 - len(trips) / due}


def simulated(path: MessagePath, transport: str, seconds: float, seed: int) -> Figures:
    """One transport in the simulator."""
    (contender,) = contenders_of([transport], needs_rates=False)
    found = exchange(contender, path.ways, seconds, seed)
    figures = figures_of(found.round_trips_ms.tolist(), round(PER_S * seconds))
    return {**figures, "ip_bytes_sent": found.ip_bytes_sent, "unclean": ""}


def program_word(transport: str) -> str:
    """The transport for the program. Its datagrams have the simulator's size from the beginning: the search
    for a larger one sends datagrams that the simulator does not send."""
    return f"{transport}:mtu={MTU}" if transport.startswith("kcp") else transport


def in_lab(path: MessagePath, transport: str, seconds: float, seed: int) -> Figures:
    """One transport in the lab, with the program at both ends."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report"
        program = [sys.executable, "-m", "iperfpy"]
        lab = ["lab", "--seed", str(seed), "--json", "--report", str(report), "--server-wait", "30"]
        lab += ["--server", f"exec {sys.executable} -m iperfpy -s", path.text, "--"]
        messages = [
            "latency",
            FAR,
            "--proto",
            program_word(transport),
            "--load",
            "none",
            "-t",
            f"{seconds:g}",
            "--no-save",
        ]
        messages += ["--rate", str(PER_S), "--size", str(SIZE_BYTES), "-J"]
        try:
            done = subprocess.run(
                [*program, *lab, *program, *messages],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=seconds + PATIENCE_S,
                check=False,
            )
            document = json.loads(done.stdout)
            counters = json.loads(report.read_text())
        except (subprocess.TimeoutExpired, ValueError, OSError) as error:
            return {"error": type(error).__name__, "unclean": ""}
    return lab_figures(document, counters)


def lab_figures(document: Figures, counters: Figures) -> Figures:
    """The figures of a run, of the document of `iperfpy latency` and of the counters of the lab.

    `unclean` : the reason why the machine did not keep to the path, or to the times of the messages; or empty
    """
    if document.get("error") or not document["rows"]:
        return {"error": document.get("error") or "no row", "unclean": ""}
    (row,) = document["rows"]
    trips = [trip for one in row["rounds"] for trip in one["round_trip_us"]]
    found = figures_of((trip / 1e3 for trip in trips if trip is not None), len(trips))
    held_us = row["figures"]["held_p99_us"]
    unclean = counters["unclean"]
    if not unclean and held_us is not None and held_us > HELD_US:
        unclean = f"messages left {held_us / 1e3:.1f} ms late (p99)"
    wire = [one.get("wire_sent_bytes") for one in row["rounds"]]
    return {
        **found,
        "ip_bytes_sent": None if None in wire else sum(wire),
        "unclean": unclean,
        "late_p99_us": counters["late_us"]["p99"],
        "held_p99_us": held_us,
    }
