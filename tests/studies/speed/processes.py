"""Child processes and their cost: processor time, peak memory, wall time.

The kernel does the accounting (`os.wait4`), so every program is measured in the same way.
Linux only, as the rest of the benchmark is.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.open_ports import open_ports

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class RunError(Exception):
    """A run gave no figures; the sentence says which program failed, and how."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended: its output, and its cost from start to end."""

    output: str
    cpu_s: float
    peak_bytes: int
    wall_s: float


class Program:
    """A running child process. Its output goes to files, so it never blocks on a full pipe."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.argv = tuple(argv)
        self.name = Path(argv[0]).name
        self._files = ExitStack()
        self._out, self._err = (self._files.enter_context(_file()) for _ in range(2))
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env={**os.environ, **(env or {})},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        # `poll` would reap the process, and with it the accounting that `wait` has to read.
        if self._process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def cpu_s(self) -> float:
        """Processor time so far, user and system, of all threads, in steps of 10 ms."""
        # The program's name may contain spaces; the fields behind its closing parenthesis do not.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def wait(self, timeout_s: float) -> Ended:
        """Wait for its end.

        Raises
        ------
        RunError
            It did not end in time, or not with status 0.
        """
        pidfd = os.pidfd_open(self.pid)
        try:
            if not select.select([pidfd], [], [], timeout_s)[0]:
                raise RunError(f"{self.name} did not end within {timeout_s:.0f} s")
        finally:
            os.close(pidfd)
        # wait4 also returns processor time and peak memory, which Popen.wait discards.
        _, status, usage = os.wait4(self.pid, 0)
        wall_s = time.monotonic() - self._began
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            output_lines = (self._text(self._err) or self._text(self._out)).strip().splitlines()
            reason = output_lines[-1] if output_lines else "no output"
            raise RunError(f"{self.name} ended with status {self._process.returncode}: {reason}")
        return Ended(self._text(self._out), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, wall_s)

    def end(self) -> None:
        """Kill the process if it still runs, and close its files."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        self._files.close()

    @staticmethod
    def _text(file: IO[bytes]) -> str:
        file.seek(0)
        return file.read().decode(errors="replace")


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile()


@contextmanager
def started(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Run a program, and end it with the block at the latest."""
    program = Program(argv, env)
    try:
        yield program
    finally:
        program.end()


def free_port() -> int:
    """Find a port of 127.0.0.1 that is free for TCP and UDP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_listening(server: Program, protocol: str, port: int, timeout_s: float = 20.0) -> None:
    """Wait until a process has `port` open.

    Raises
    ------
    RunError
        The server ended, or opened no port in time.
    """
    until = time.monotonic() + timeout_s
    while port not in open_ports(protocol):
        if not server.running():
            # Raises the server's own error if its status is not 0.
            server.wait(0)
            raise RunError(f"{server.name} ended before it opened port {port}")
        if time.monotonic() > until:
            raise RunError(f"{server.name} did not open port {port} within {timeout_s:.0f} s")
        time.sleep(0.02)


Serve = Callable[[int], Sequence[str]]
"""(port) -> command line of a server that ends after one test."""


@dataclass(frozen=True, slots=True)
class Both:
    """A client and a server that have ended."""

    server: Ended
    client: Ended

    @property
    def cpu_s(self) -> float:
        return self.server.cpu_s + self.client.cpu_s


def run_both(
    serve: Serve,
    send: Callable[[int], Sequence[str]],
    protocol: str,
    env: Mapping[str, str],
    timeout_s: float,
    during: Callable[[Program, Program], None] | None = None,
) -> Both:
    """Run a server and a client on a port of their own. `during(server, client)` observes them while they
    run."""
    port = free_port()
    # The server ends by itself after one test.
    with started(serve(port), env) as server:
        wait_listening(server, protocol, port)
        with started(send(port), env) as client:
            if during is not None:
                during(server, client)
            ended = client.wait(timeout_s)
        return Both(server.wait(10.0), ended)
