"""What the program does to itself before it runs: log file, daemon, pid file, processor."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from iperfpy.errors import StartError


@contextlib.contextmanager
def logging_to(path: str) -> Iterator[None]:
    """Standard output goes to the end of the file, and errors go there too (`--logfile`)."""
    if not path:
        yield
        return
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "a", encoding="utf-8", buffering=1))
        except OSError as error:
            raise StartError(f"cannot write the log file {path}: {error.strerror}") from error
        sys.stdout, sys.stderr = file, cast("IO[str]", _Both(before[1], file))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


class _Both(io.TextIOBase):
    """Text goes to two streams; one that fails holds up nothing."""

    def __init__(self, *streams: IO[str]) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            with contextlib.suppress(OSError, ValueError):
                stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


@contextlib.contextmanager
def pid_file(path: str) -> Iterator[None]:
    """The number of this process is in the file as long as it runs (`-I`)."""
    if not path:
        yield
        return
    file, own = Path(path), f"{os.getpid()}\n"
    try:
        other = _running(file)
        if other:
            raise StartError(f"the pid file {path} names process {other}, which is running")
        file.write_text(own)
    except OSError as error:
        raise StartError(f"cannot write the pid file {path}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if file.read_text() == own:
                file.unlink()


def _running(file: Path) -> int:
    """The process that a pid file names, 0 when there is none. Raises OSError."""
    try:
        number = int(file.read_text().strip("\0\n "))
    except (FileNotFoundError, ValueError):
        return 0
    try:
        if number > 0:
            os.kill(number, 0)
    except PermissionError:
        return number  # it runs, and is not ours
    except (ProcessLookupError, OverflowError):
        return 0
    return max(0, number)


def daemonize() -> Callable[[], None] | int:
    """Go on in the background, as a child of nobody and without a terminal (`-D`).

    Returns in both processes. The child gets a function to call when it is ready: until then it can complain
    on standard error. The parent gets its exit status, after the child was ready, or has ended.
    The working directory stays, so that the paths of other flags keep their meaning.
    """
    if not hasattr(os, "fork"):
        raise StartError("this system cannot run a server as a daemon (-D)")
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writing)
        with open(reading, "rb") as pipe:
            ready = pipe.read(1)
        os.waitpid(child, 0)
        return 0 if ready else 1
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)  # so that the daemon leads no session, and can never get a terminal
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)

    def is_ready() -> None:
        os.dup2(null, 2)
        os.write(writing, b"1")
        os.close(writing)

    return is_ready


def run_on(cpu: int | None) -> None:
    """Let this process run on one processor only (`-A`)."""
    if cpu is None:
        return
    try:
        os.sched_setaffinity(0, {cpu})
    except AttributeError as error:
        raise StartError("this system cannot bind a process to a processor (-A)") from error
    except OSError as error:
        raise StartError(f"cannot run on processor {cpu} (-A): {error.strerror}") from error
