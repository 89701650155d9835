"""Servers and clients as programs; ours are warm (tests/warm_program.py)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.open_ports import open_ports
from tests.warm_program import PATIENCE_S, WarmProgram

Program = Sequence[str]
OURS: Program = (sys.executable, "-m", "iperfpy")


@dataclass(slots=True)
class Started:
    """A program that runs, and the files of its output."""

    process: subprocess.Popen[bytes] | WarmProgram
    output: Path
    errors: Path

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Wait for its end; returns the exit status."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Kill it, unless it has ended."""
        self.process.kill()
        self.wait()


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """Its standard output as JSON; the program has succeeded."""
        assert self.returncode == 0, self.stdout + self.stderr
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found


def start(program: Program, arguments: Sequence[str], folder: Path) -> Started:
    """Start a program; its output goes to new files of the folder."""
    stem = f"{Path(program[0]).name}-{time.monotonic_ns()}"
    output, errors = folder / f"{stem}.out", folder / f"{stem}.err"
    with output.open("wb") as out, errors.open("wb") as complaints:
        if program[: len(OURS)] == OURS:
            words = [*program[len(OURS) :], *arguments]
            return Started(WarmProgram(words, stdout=out, stderr=complaints), output, errors)
        return Started(
            subprocess.Popen([*program, *arguments], stdout=out, stderr=complaints), output, errors
        )


def finished(program: Program, arguments: Sequence[str], folder: Path) -> Finished:
    """Run a program to its end."""
    started = start(program, arguments, folder)
    try:
        status = started.wait()
    finally:
        started.stop()
    return Finished(status, started.output.read_text(), started.errors.read_text())


def wait_until(ready: Callable[[], bool], complaint: str, seconds: float = PATIENCE_S) -> None:
    """Poll until `ready()` is true."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


def listening(
    program: Program, port: int, arguments: Sequence[str], folder: Path, host: str = "127.0.0.1"
) -> Started:
    """Start a server on a port of loopback, and wait until it listens."""
    server = start(program, ["-s", "-B", host, "-p", str(port), *arguments], folder)
    try:
        wait_until(lambda: port in open_ports(), "no server listens")
    except BaseException:
        server.stop()
        raise
    return server
