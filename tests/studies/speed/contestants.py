"""Contestants of the speed study: programs that return figures, or say why they cannot run.

Figures are plain numbers under these names:

    bits_per_s           payload that the receiver counted
    bytes, seconds       the same, in parts
    cpu_s                processor time of both ends, start and end included
    whole_cpu_s_per_gb   the same per 10^9 payload bytes
    cpu_s_per_gb         the same without the cost of an empty test, per 10^9 payload bytes
    peak_bytes           peak memory of the sender
    wall_ms              from start to end of a command
    fairness             Jain's index of the bytes of the streams: 1 if all carried as many
    rate_error_percent   worst second of a rate-limited test
    sender_cpu_percent, receiver_cpu_percent   of one core, while a test runs
    worst_bin_percent    deviation of the worst 10 ms of a second from the requested rate
    us_per_segment_...   engines alone (engines.py)
    stalled_runs         runs before this one that stalled and were repeated
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.studies.speed.processes import Both, Program, RunError, run_both, started

Figures = dict[str, float]

START_UP_S = 30.0
"""Time that a test may take beyond its measured time."""
EMPTY_RUNS = 3


class Contestant(Protocol):
    name: str

    def missing(self) -> str:
        """Say why the contestant cannot run here, and how to change that; empty if it can."""

    def prepare(self, seconds: float, figures: Set[str]) -> str:
        """Build, choose settings, calibrate: work that is done once before the first round. Returns a remark
        for the record, or an empty string."""

    def measure(self, seconds: float) -> Figures:
        """Run once, for about `seconds`.

        Raises
        ------
        RunError
            The run gave no figures.
        """


@dataclass(frozen=True, slots=True)
class Received:
    """The receiver's count of a test."""

    bytes: float
    seconds: float
    figures: Figures = field(default_factory=dict)


Serve = Callable[[int], Sequence[str]]
Send = Callable[[int, float], Sequence[str]]


class Watch(Protocol):
    """Observer of a running test: called with the server and the client once both have started."""

    def __call__(self, server: Program, client: Program) -> None: ...

    def figures(self) -> Figures: ...


@dataclass
class Pair:
    """A server and a client over 127.0.0.1.

    `serve(port)`, `send(port, seconds)` : command lines. 0 seconds asks for the shortest possible test, which
    gives the cost of start and end. `received` : reads the figures from the output of both.
    """

    name: str
    serve: Serve
    send: Send
    received: Callable[[Both], Received]
    listens: str = "tcp"
    env: Mapping[str, str] = field(default_factory=dict)
    why_missing: Callable[[], str] = str
    reverse: bool = False
    watch: Callable[[float], Watch] | None = None
    """Makes the observer of a run (watch.py) from the length of the run."""
    empty_cpu_s: float = 0.0

    def missing(self) -> str:
        return self.why_missing()

    def prepare(self, seconds: float, figures: Set[str]) -> str:
        if "cpu_s_per_gb" not in figures:
            return ""
        runs = [self._run(0.0).cpu_s for _ in range(EMPTY_RUNS)]
        self.empty_cpu_s = statistics.median(runs)
        return f"an empty test takes {self.empty_cpu_s:.2f} s of processor time"

    def measure(self, seconds: float) -> Figures:
        watch = self.watch(seconds) if self.watch else None
        both = self._run(seconds, watch)
        counted = self.received(both)
        if counted.bytes <= 0 or counted.seconds <= 0:
            raise RunError(f"{self.name}: the receiver counted nothing")
        # With -R the server sends.
        sender = both.server if self.reverse else both.client
        return {
            "bits_per_s": counted.bytes * 8 / counted.seconds,
            "bytes": counted.bytes,
            "seconds": counted.seconds,
            "cpu_s": both.cpu_s,
            "cpu_s_per_gb": max(0.0, both.cpu_s - self.empty_cpu_s) / (counted.bytes / 1e9),
            "whole_cpu_s_per_gb": both.cpu_s / (counted.bytes / 1e9),
            "peak_bytes": sender.peak_bytes,
            **counted.figures,
            **(watch.figures() if watch else {}),
        }

    def _run(self, seconds: float, watch: Watch | None = None) -> Both:
        def send(port: int) -> Sequence[str]:
            return self.send(port, seconds)

        return run_both(self.serve, send, self.listens, self.env, seconds + START_UP_S, watch)


@dataclass
class Module:
    """A module of this package that prints its figures as one JSON line."""

    name: str
    arguments: Sequence[str]
    why_missing: Callable[[], str] = str

    def missing(self) -> str:
        return self.why_missing()

    def prepare(self, seconds: float, figures: Set[str]) -> str:
        return ""

    def measure(self, seconds: float) -> Figures:
        with started([sys.executable, "-m", *self.arguments]) as program:
            report = parse(program.wait(120.0).output, self.name)
        return {key: float(value) for key, value in report.items()}


@dataclass
class Command:
    """A command that runs to its end."""

    name: str
    argv: Sequence[str]

    def missing(self) -> str:
        return ""

    def prepare(self, seconds: float, figures: Set[str]) -> str:
        self.measure(seconds)  # The first start of all also compiles byte code and fills the file cache.
        return ""

    def measure(self, seconds: float) -> Figures:
        with started(self.argv) as program:
            ended = program.wait(START_UP_S)
        return {"wall_ms": ended.wall_s * 1000, "cpu_s": ended.cpu_s, "peak_bytes": ended.peak_bytes}


def parse(text: str, name: str) -> dict[str, Any]:
    """Parse the JSON object that a program printed.

    Raises
    ------
    RunError
        The output is not a JSON object.
    """
    try:
        report = json.loads(text)
    except json.JSONDecodeError as error:
        raise RunError(f"{name} printed no JSON: {text[:80]!r}") from error
    if not isinstance(report, dict):
        raise RunError(f"{name} printed no JSON object")
    return report
