"""One program over one path: the receiver's rate and the sender's round-trip time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.open_ports import ports_in
from tests.studies.odd_real.emulated_paths import OddPath
from tests.studies.odd_real.emulator import SERVER, Lab, first_second_lost, lab

PORT = 5301
BEGINS_S = 4.0
"""Seconds from the start of the emulator to the data: programs take a while to start, and the changes of the
path are given to the emulator before."""
STARTS_S = {"kcp-bbr": 0.9, "bbr": 0.3, "cubic": 0.3}
"""Seconds from the start of a client to its data, about."""
PATIENCE_S = 60.0
INTERVAL_S = 1.0


def measure(folder: Path, path: OddPath, program: str, seconds: float) -> dict[str, Any]:
    """Run `program` (kcp-bbr, or a congestion control of TCP) for `seconds`; its figures, or `error`."""
    with tempfile.TemporaryDirectory() as scratch:
        trace = Path(scratch) / "trace.csv" if path.start else None
        with lab(folder, _options(path, seconds), trace) as made:
            up = time.monotonic()
            server = subprocess.Popen(
                made.inside("b", *_server(program)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                _await_listening(made)
                time.sleep(max(0.0, up + BEGINS_S - STARTS_S[program] - time.monotonic()))
                figures = _client(made, path, program, seconds)
            finally:
                server.terminate()
                server.wait(10)
        if trace is not None:
            figures["first_second_lost"] = first_second_lost(trace)
    return {**figures, "unclean": made.unclean}


def _options(path: OddPath, seconds: float) -> list[str]:
    options = ["--ab", path.forward_spec, "--ba", path.back]
    for change in path.changes(seconds):
        options += ["--at", f"{BEGINS_S + change.at_s:g}:{change.way}:{change.spec}"]
    return options


def _server(program: str) -> Sequence[str]:
    if program == "kcp-bbr":
        return (sys.executable, "-m", "iperfpy", "-s", "-1", "-p", str(PORT))
    return ("iperf3", "-s", "-1", "-J", "-p", str(PORT))


def _await_listening(made: Lab) -> None:
    deadline = time.monotonic() + PATIENCE_S
    asked = made.inside("b", "cat", "/proc/net/tcp", "/proc/net/tcp6")
    while time.monotonic() < deadline:
        tables = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout
        if PORT in ports_in(tables):
            return
        time.sleep(0.1)


def _client(made: Lab, path: OddPath, program: str, seconds: float) -> dict[str, Any]:
    common = ("-c", SERVER, "-p", str(PORT), "-t", f"{seconds:g}", "-i", str(INTERVAL_S), "-J")
    if program == "kcp-bbr":
        command = [sys.executable, "-m", "iperfpy", *common, "--proto", "kcp-bbr"]
    else:
        segment = ("-M", str(path.tcp_segment)) if path.tcp_segment else ()
        command = ["iperf3", *common, "-C", program, "--get-server-output", *segment]
    try:
        done = subprocess.run(
            made.inside("a", *command),
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE_S,
            check=False,
        )
        document = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        return {"error": type(error).__name__}
    if "error" in document:
        return {"error": str(document["error"])}
    return figures_of(document, path.measured_from_s(seconds), whole=path.start)


def figures_of(document: Mapping[str, Any], from_s: float, *, whole: bool) -> dict[str, Any]:
    """Receiver's Mbit/s and sender's mean RTT, ms, of the intervals from `from_s` on. `whole`: the rate is
    the receiver's average of the whole test."""
    first_s = from_s - INTERVAL_S / 2  # intervals end a little late
    rtts_us = [
        stream.get("mean_rtt") or stream["rtt"]
        for interval in document["intervals"]
        for stream in interval["streams"]
        if stream.get("rtt") and stream["start"] >= first_s
    ]
    received = [(end - start, count) for start, end, count in _received(document) if start >= first_s < end]
    seconds = sum(length for length, _ in received)
    mbit = 8e-6 * sum(count for _, count in received) / seconds if seconds else None
    if whole or mbit is None:
        mbit = document["end"]["sum_received"]["bits_per_second"] / 1e6
    return {"mbit": mbit, "rtt_ms": fmean(rtts_us) / 1e3 if rtts_us else None}


def _received(document: Mapping[str, Any]) -> list[tuple[float, float, int]]:
    """(start, end, bytes) of the receiver's intervals: iperf3's server reports them in its own document."""
    theirs = document.get("server_output_json")
    if theirs is not None:
        rows = [interval["sum"] for interval in theirs.get("intervals", ())]
    else:
        streams = (stream for interval in document["intervals"] for stream in interval["streams"])
        rows = [stream["peer"] for stream in streams if stream.get("peer")]
    return [(row["start"], row["end"], row["bytes"]) for row in rows]
