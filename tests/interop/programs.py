"""Servers and clients as programs, of which ours begin warm: forked from a process that has imported them.

An interpreter that imports this program anew takes half a second of a processor, longer than most tests do. A
forked one runs `iperfpy.cli.main.main` with the same words, as a process of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.open_ports import open_ports

Program = Sequence[str]
OURS: Program = (sys.executable, "-m", "iperfpy")
PATIENCE_S = 120.0
"""Longest wait for a program. A busy machine takes a while to start one; only a hanging one takes so long."""
IMPORTED = (
    *(
        "iperfpy.cli.commands.run",
        "iperfpy.cli.outputs",
        "iperfpy.endpoint.client",
        "iperfpy.endpoint.server",
    ),
    *("iperfpy.report.json_report", "iperfpy.runtime.event_loop", "iperfpy.protocols.tcp.channel"),
    *("iperfpy.protocols.udp.channel", "iperfpy.protocols.kcp.channel", "uvloop"),
)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *IMPORTED])
    return context


def _ours(arguments: Sequence[str], output: str, errors: str) -> None:
    """Be the program: the streams of the process, then its words."""
    for path, number in ((output, 1), (errors, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    from iperfpy.cli.main import main

    sys.argv[1:] = arguments
    sys.exit(main())


@dataclass(slots=True)
class Started:
    """A program that runs, and the files of its output."""

    process: subprocess.Popen[bytes] | BaseProcess
    output: Path
    errors: Path

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Wait for its end; returns the exit status."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.wait(seconds)
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds} s"
        return self.process.exitcode

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
    if program[: len(OURS)] == OURS:
        words = [*program[len(OURS) :], *arguments]
        process = _context().Process(target=_ours, args=(words, str(output), str(errors)), daemon=True)
        process.start()
        return Started(process, output, errors)
    with output.open("wb") as out, errors.open("wb") as complaints:
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
