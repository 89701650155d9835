"""The three instruments: each runs one program over one path, and gives the same figures.

idle_p50, loaded_p50, loaded_p95     round-trip times of probes, ms
mbit                                 goodput after the first 4 s
loss, burst                          share of lost datagrams, mean length of a burst, where loss is configured
unclean                              the reason why the machine disturbed the run; empty if it did not
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iperfpy.protocols.simulator import Bulk, Silent, Simulation
from iperfpy.protocols.simulator.inbox import Inbox
from iperfpy.protocols.simulator.link import Link
from iperfpy.protocols.simulator.truth import Truth
from tests.studies.lab_check.checked_paths import COUNTED, CheckedPath
from tests.studies.lab_check.near import (
    COUNTED_BYTES,
    IDLE_S,
    PROBE_BYTES,
    PROBES_PER_S,
    SETTLED_S,
    bursts,
    quantiles,
)
from tests.studies.lab_check.ports import SERVER
from tests.studies.odd_paths.prober import Echo, Prober
from tests.studies.odd_real.emulator import SERVER as FAR
from tests.studies.odd_real.emulator import lab
from tests.studies.odd_real.one_run import STARTS_S
from tests.studies.paths.watched import MTU, SECOND, bbr_engine

KCP_BBR, IPERF3 = "kcp-bbr", "iperf3"
PATIENCE_S = 180.0
COUNTED_AT_ONCE = 10
HOST_LATE_US = 200.0
"""Mean lateness of the simulator's hosts, by the idle path: a round trip of both real instruments is 0.4 ms
longer than the path, and has two wake-ups. Without it, the pace of a simulated sender is more even than any
program's, and its queue shorter."""
ROOT = Path(__file__).parents[3]
Figures = dict[str, Any]


def simulated(path: CheckedPath, seconds: float, seed: int) -> Figures:
    """kcp-bbr in the simulator."""
    idle = Simulation(seed, host_late_us=HOST_LATE_US)
    prober = Prober(0.0, IDLE_S * SECOND, 1e6 / PROBES_PER_S, PROBE_BYTES)
    there, back = map(idle.link, path.ways)
    idle.flow(prober, Echo(), there, back, Silent())
    idle.run(int((IDLE_S + 1) * SECOND))
    figures: Figures = quantiles("idle", prober.rtts_us)
    simulation = Simulation(seed, host_late_us=HOST_LATE_US)
    there, back = map(simulation.link, path.ways)
    sender, receiver = bbr_engine(seed), bbr_engine(seed)
    # A client takes a while to start, in which the probes' time already runs.
    start_us = int(STARTS_S[KCP_BBR] * SECOND)
    simulation.flow(sender, receiver, there, back, Bulk(sender), start_us=start_us)
    beside = Prober(SETTLED_S * SECOND, seconds * SECOND, 1e6 / PROBES_PER_S, PROBE_BYTES)
    simulation.flow(beside, Echo(), there, back, Silent())
    simulation.run(start_us + int(SETTLED_S * SECOND))
    before = receiver.receiving.bytes
    simulation.run(start_us + int(seconds * SECOND))
    carried = 8e-6 * (receiver.receiving.bytes - before) / (seconds - SETTLED_S)
    figures |= {"mbit": carried, **quantiles("loaded", beside.rtts_us), "unclean": ""}
    return figures | (_counted(path, seed) if path.loss else {})


def _counted(path: CheckedPath, seed: int) -> dict[str, float]:
    """Losses of a link to which numbered datagrams are given, a few at a time: a fifth of what the real ones
    take, and less than any buffer holds."""
    link, inbox, truth = Link(path.ways[0], np.random.SeedSequence(seed)), Inbox(0.0), Truth()
    for first in range(0, COUNTED, COUNTED_AT_ONCE):
        numbers = np.arange(first, min(first + COUNTED_AT_ONCE, COUNTED), dtype=">u8")
        rows = np.zeros((len(numbers), COUNTED_BYTES), np.uint8)
        rows[:, :8] = numbers.view(np.uint8).reshape(-1, 8)
        link.carry_rows(first * 500.0, rows, inbox, truth, 0.0)
    seen = [
        int.from_bytes(row[:8].tobytes(), "big") for _, rows in inbox.take_rows(float("inf")) for row in rows
    ]
    return bursts(seen, COUNTED)


def in_lab(path: CheckedPath, program: str, seconds: float, seed: int) -> Figures:
    """A program in the lab."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report"
        words = ["--seed", str(seed), "--json", "--report", str(report), "--server-wait", "30"]
        words += ["--server", "exec " + shlex.join(_far(program)), path.text, "--"]
        done = _run([sys.executable, "-m", "iperfpy", "lab", *words, *_near(path, program, seconds)])
        return done | lab_figures(report)


def lab_figures(report: Path) -> Figures:
    """The reason why a run in the lab was not clean, and its lateness, us, from the lab's report. A lab that
    failed leaves none, and its run has an error."""
    if not report.exists() or not report.stat().st_size:
        return {"unclean": "", "late_p99_us": None}
    counters = json.loads(report.read_text())
    return {"unclean": counters["unclean"], "late_p99_us": counters["late_us"]["p99"]}


def in_emulator(folder: Path, path: CheckedPath, program: str, seconds: float, seed: int) -> Figures:
    """A program in the emulator."""
    options = ["--ab", path.there, "--ba", path.back, "--seed", str(seed)]
    with lab(folder, options) as made:
        far = subprocess.Popen(
            made.inside("b", *_far(program)), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            done = _run(made.inside("a", *_near(path, program, seconds)))
        finally:
            subprocess.run(["pkill", "-TERM", "-s", str(far.pid)], check=False)
            far.wait(10)
    return {**done, "unclean": made.unclean, "late_p99_us": made.counters.get("late_us", {}).get("p99")}


def _far(program: str) -> list[str]:
    servers = {
        KCP_BBR: [sys.executable, "-m", "iperfpy", "-s", "-p", str(SERVER)],
        IPERF3: ["iperf3", "-s", "-p", str(SERVER)],
    }
    return [sys.executable, "-m", "tests.studies.lab_check.far", FAR, *servers[program]]


def _near(path: CheckedPath, program: str, seconds: float) -> list[str]:
    common = ["-c", FAR, "-p", str(SERVER), "-t", f"{seconds:g}", "-i", "1", "-J"]
    clients = {
        # Datagrams of the simulator's size: the search for a larger one would make another path.
        KCP_BBR: [sys.executable, "-m", "iperfpy", *common, "--proto", "kcp-bbr", "--kcp-mtu", str(MTU)],
        IPERF3: ["iperf3", *common, "--get-server-output", "-C", path.congestion],
    }
    counted = str(COUNTED if path.loss and program == KCP_BBR else 0)
    module = [sys.executable, "-m", "tests.studies.lab_check.near"]
    return [*module, FAR, f"{seconds:g}", counted, *clients[program]]


def _run(command: Sequence[str]) -> Figures:
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        found: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"error": type(error).__name__}
    return found
