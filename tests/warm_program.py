"""Our program as a process of its own, forked from one that has imported it.

    with WarmProgram(["-s", "-p", port], stdout=PIPE) as server: ...
    done = run_warm(["-c", "127.0.0.1", "-p", port, "-J"])
    with local_server() as server: ...

An interpreter that imports the program anew takes half a second of a processor, longer than most tests do. A
warm program has descriptors, variables, a folder and signals of its own, and ends by itself, like any other.
A test of the start itself starts an interpreter: one of limits, of closed descriptors, of variables that the
interpreter reads, of folders from which modules come.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import HAVE_SEND_HANDLE, DupFd
from subprocess import DEVNULL, PIPE, STDOUT
from types import TracebackType
from typing import IO, Any, Self, cast

import iperfpy

PATIENCE_S = 120.0
"""Longest wait for a program. A busy machine takes a while; only a hanging program takes so long."""
MAIN = "iperfpy.cli.main:main"
IMPORTED = (
    "iperfpy.cli.commands.lab_run",
    "iperfpy.cli.commands.run",
    "iperfpy.cli.one_test",
    "iperfpy.cli.outputs",
    "iperfpy.cli.process",
    "iperfpy.endpoint.client",
    "iperfpy.endpoint.server",
    "iperfpy.local_server",
    "iperfpy.lab.lab_session",
    "iperfpy.lab.relay_session",
    "iperfpy.api",
    "iperfpy.report.json_report",
    "iperfpy.report.csv_report",
    "iperfpy.report.service_log",
    "iperfpy.runtime.event_loop",
    "iperfpy.runtime.signals",
    "iperfpy.protocols.tcp.channel",
    "iperfpy.protocols.udp.channel",
    "iperfpy.protocols.kcp.channel",
    "iperfpy.protocols.tcp.tuning",
    "iperfpy.cli.main",
    "iperfpy.control.evidence_codec",
    "encodings.idna",
    "uvloop",
    "tests.warm_registry",
)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *IMPORTED])
    return context


class _Descriptor:
    """A descriptor that a forked process gets. Unpickled, it is the number of a copy."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.number),)


def _received(copy: Any) -> int:
    number: int = copy.detach()
    return number


def _be(
    entry: str,
    arguments: Sequence[str],
    folder: str,
    variables: Mapping[str, str],
    descriptors: Sequence[int],
    new_session: bool,
    namespace: str,
    user: int,
    threads: int,
) -> None:
    """Be the program: take its descriptors, user, folder and variables, then call its entry."""
    if new_session:
        os.setsid()
    if namespace:
        from tests.studies.wire.namespaces import enter

        enter(namespace)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if threads:
        resource.setrlimit(resource.RLIMIT_NPROC, (threads, threads))
    if user:
        _become(user)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it lasts as long as the process
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - as above
    sys.argv = ["iperfpy", *arguments]
    module, _, function = entry.partition(":")
    sys.exit(getattr(import_module(module), function)())


def _become(user: int) -> None:
    """Be a user without any right of root, as after a start by that user."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    # The files of the process in /proc would stay root's.
    pr_set_dumpable = 4
    assert ctypes.CDLL(None).prctl(pr_set_dumpable, 1, 0, 0, 0) == 0


class WarmProgram:
    """A running program. Parameters, attributes and methods are those of `subprocess.Popen` in text mode.

    entry : module and function that the process calls; the result is its exit status
    namespace : network namespace that `ip netns` made, or empty
    user : number of the user and the group that the process has; 0: those of the tests
    threads : number of threads that the user may have, which does not limit root; 0: as many as the tests
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        entry: str = MAIN,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        start_new_session: bool = False,
        namespace: str = "",
        user: int = 0,
        threads: int = 0,
    ) -> None:
        self.stdin: IO[str] | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        self._lent: list[int] = []
        inputs, outputs = self._given(stdin, 0), self._given(stdout, 1)
        errors = outputs if stderr == STDOUT else self._given(stderr, 2)
        self._process = _context().Process(
            target=_be,
            args=(
                entry,
                list(arguments),
                os.fspath(cwd or os.getcwd()),
                dict(os.environ if env is None else env),
                [_Descriptor(each) for each in (inputs, outputs, errors)],
                start_new_session,
                namespace,
                user,
                threads,
            ),
            daemon=True,
        )
        try:
            self._process.start()
        finally:
            for number in self._lent:
                os.close(number)

    def _given(self, stream: int | IO[Any] | None, number: int) -> int:
        """The descriptor for a standard stream; the near end of a pipe becomes an attribute."""
        if stream is None:
            return number
        if stream == DEVNULL:
            self._lent.append(os.open(os.devnull, os.O_RDWR))
        elif stream == PIPE:
            reading, writing = os.pipe()
            self._lent.append(writing if number else reading)
            near = open(reading) if number else open(writing, "w")  # noqa: SIM115 - `communicate` closes it
            setattr(self, ("stdin", "stdout", "stderr")[number], near)
        else:
            return stream if isinstance(stream, int) else stream.fileno()
        return self._lent[-1]

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while the program runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As `returncode`."""
        return self._process.exitcode

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired("iperfpy", timeout)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: str | None = None, timeout: float = PATIENCE_S) -> tuple[str, str]:
        """Write to standard input, read both outputs, wait for the end. Raises subprocess.TimeoutExpired."""
        texts = ["", ""]

        def read(place: int, stream: IO[str]) -> None:
            texts[place] = stream.read()

        outputs = enumerate((self.stdout, self.stderr))
        streams = [(place, stream) for place, stream in outputs if stream and not stream.closed]
        # Both pipes are read at once: a program that fills one waits for its reader.
        readers = [threading.Thread(target=read, args=each, daemon=True) for each in streams]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            self.stdin.write(input or "")
            self.stdin.close()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        for _, stream in streams:
            stream.close()
        return texts[0], texts[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


def run_warm(
    arguments: Sequence[str], *, input: str | None = None, timeout: float = PATIENCE_S, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `subprocess.run` with `capture_output=True, text=True`.

    more : parameters of `WarmProgram`; `stdout` and `stderr` take the place of the captured ones
    """
    if input is not None:
        more["stdin"] = PIPE
    program = WarmProgram(arguments, **{"stdout": PIPE, "stderr": PIPE, **more})
    try:
        output, errors = program.communicate(input, timeout)
    finally:
        program.kill()
    return subprocess.CompletedProcess(list(arguments), program.wait(), output, errors)


class WarmLocalServer:
    """A server on loopback in a process of its own, with the attributes of `iperfpy.LocalServer`."""

    def __init__(self, host: str = "127.0.0.1", max_tests: int = 64) -> None:
        self.host = host
        self._program = WarmProgram(
            [host, "0", str(max_tests)], entry="tests.warm_program:_serve_locally", stdin=PIPE, stdout=PIPE
        )
        assert self._program.stdout is not None
        self.port = int(self._program.stdout.readline())

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._program.pid

    def stop(self) -> None:
        """Stop the server: running tests end, and their clients are told. Idempotent."""
        # The end of its standard input is the sign.
        self._program.__exit__(None, None, None)


def _serve_locally() -> int:
    from iperfpy.local_server import main

    return main(sys.argv[1:])


@contextmanager
def local_server(max_tests: int = 64) -> Iterator[WarmLocalServer]:
    """Serve for the time of the block."""
    if not HAVE_SEND_HANDLE:  # of a system without descriptors in messages, where every process starts anew
        with iperfpy.LocalServer(max_tests=max_tests) as cold:
            yield cast("WarmLocalServer", cold)  # it has the same attributes
        return
    server = WarmLocalServer(max_tests=max_tests)
    try:
        yield server
    finally:
        server.stop()
