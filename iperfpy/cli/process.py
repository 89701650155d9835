"""Set-up of the process before a test or a server runs: log file, daemon, PID file, processor."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import IO, Any, cast

from iperfpy.cli.exit_status import warn
from iperfpy.errors import StartError
from iperfpy.protocols.operating_system import is_removed, is_running
from iperfpy.protocols.whole_file import read_whole

_MOST_PID_BYTES = 4096


class LogFile:
    """The file in place of standard output (`--logfile`). Without a path it does nothing.

    Parameters
    ----------
    path : of the file, or empty
    json : the JSON form in which a warning is written, or empty

    Attributes
    ----------
    failed : True once the file did not take a part of the output, which went to standard output then
    """

    def __init__(self, path: str, json: str = "") -> None:
        self._path, self._json = path, json
        self._stream: IO[str] | None = None
        self.failed = False

    @property
    def is_open(self) -> bool:
        """True if the output goes to a file."""
        return self._stream is not None

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Append standard output to the file, and errors to it as well, while the context lasts.

        Raises
        ------
        StartError
            When the file cannot be written.
        """
        if not self._path:
            yield
            return
        before = sys.stdout, sys.stderr
        try:
            file = FileIO(self._path, "a")
        except OSError as error:
            raise StartError(f"cannot write the log file {self._path}: {error.strerror}") from error
        output, lines = _LogOutput(file, before[0], self._lost), _LogLines(file)
        self._stream = sys.stdout = _text_of(output)
        # An error that the file does not take is on standard error all the same.
        sys.stderr = cast("IO[str]", _Tee(before[1], _text_of(lines)))
        try:
            yield
        finally:
            self._stream = None
            sys.stdout, sys.stderr = before
            file.close()  # each line was written when it was complete

    def _lost(self, error: OSError) -> None:
        self.failed = True
        reason = f"the log file {self._path} can no longer be written: {error.strerror}"
        warn(f"{reason}; the output goes to standard output", self._json)

    def reopen(self) -> None:
        """Open the path again, after a rotation moved the file away. After an OSError the old file stays."""
        if self._stream is None:
            return
        _open_again(self._path, self._stream.fileno())


def _open_again(path: str, descriptor: int) -> None:
    """Let the descriptor lead to a new file of that path. Raises OSError."""
    replacement = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    # The reports hold the stream: it keeps its descriptor.
    os.dup2(replacement, descriptor, inheritable=False)
    os.close(replacement)


def has_terminal() -> bool:
    """True if the process has a controlling terminal. It ends with that terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


class _LogLines(io.RawIOBase):
    """Appends text to the log file, or to a new one if somebody has removed it.

    If only a part of a line was written, that line is ended before the next one."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._torn = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, data: Any) -> int:
        content = bytes(data)
        if is_removed(self.fileno()):
            _open_again(str(self._file.name), self.fileno())
            self._torn = False
        rest = b"\n" + content if self._torn else content
        try:
            while rest:
                written = self._file.write(rest)
                self._torn, rest = True, rest[written:]
        finally:
            self._torn = self._torn and bool(rest)
        return len(content)


class _LogOutput(_LogLines):
    """Standard output in the log file. Text that the file does not take, as on a full disk, goes to the
    stream that was standard output before; `lost` is called with the first error of each such time."""

    def __init__(self, file: FileIO, before: IO[str], lost: Callable[[OSError], None]) -> None:
        super().__init__(file)
        self._before, self._lost = before, lost
        self._failing = False

    def write(self, data: Any) -> int:
        content = bytes(data)
        try:
            super().write(content)
        except OSError as error:
            try:
                self._before.write(content.decode())
                self._before.flush()
            except (OSError, ValueError):
                raise error from None
            if not self._failing:
                self._failing = True
                self._lost(error)
        else:
            self._failing = False
        return len(content)


def _text_of(file: io.RawIOBase) -> IO[str]:
    """A stream of text that writes each line at once, and needs no closing."""
    return io.TextIOWrapper(cast("Any", file), "utf-8", line_buffering=True)


class _Tee(io.TextIOBase):
    """Writes text to several streams. A stream that fails does not keep the others from their text."""

    def __init__(self, *streams: IO[str]) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        for stream in self.streams:
            with contextlib.suppress(OSError, ValueError):
                stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self.streams:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


@contextlib.contextmanager
def pid_file(path: str) -> Iterator[None]:
    """Keep the process ID in a file while the context lasts (`-I`). Empty path, or the null device: no file.

    Raises
    ------
    StartError
        When the file cannot be written, or names a process that runs.
    """
    if path in ("", os.devnull):
        yield
        return
    file, own = Path(path), f"{os.getpid()}\n".encode()
    # The file is removed only if it still names this process: another one may have taken it over.
    try:
        other = _running(file)
        if other:
            raise StartError(f"the PID file {path} names process {other}, which is running")
        file.write_bytes(own)
    except OSError as error:
        raise StartError(f"cannot write the PID file {path}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if read_whole(file, _MOST_PID_BYTES) == own:
                file.unlink()


def _running(file: Path) -> int:
    """The running process that a PID file names, 0 if there is none. Raises OSError."""
    # Some programs end the number with a zero byte, as iperf3 does; a file without a number is stale.
    try:
        number = int(read_whole(file, _MOST_PID_BYTES).strip(b"\0\n "))
    except (FileNotFoundError, ValueError):
        return 0
    # A container's program is process 1 each time: the file is that of its last life.
    if number <= 0 or number == os.getpid():
        return 0
    return number if is_running(number) else 0


def daemonize() -> Callable[[], None] | int:
    """Continue in the background, as an orphan process without a terminal (`-D`).

    Returns in both processes. The daemon gets a function to call when it is ready; until then it can report
    errors on standard error. The parent gets its exit status, once the daemon is ready or has ended.
    The working directory stays, so that the paths of other flags keep their meaning.
    """
    if not hasattr(os, "fork"):
        raise StartError("this system cannot run a server as a daemon (-D)")
    # The parent waits for a byte: none comes if the daemon ends before it listens.
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
        os._exit(0)  # the daemon then leads no session, so it can never get a terminal
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)

    def is_ready() -> None:
        os.dup2(null, 2)
        os.write(writing, b"1")
        os.close(writing)

    return is_ready


def run_on(cpu: int | None) -> None:
    """Restrict this process to one processor (`-A`); None: no restriction. Raises `StartError`."""
    if cpu is None:
        return
    try:
        os.sched_setaffinity(0, {cpu})
    except AttributeError as error:
        raise StartError("this system cannot bind a process to a processor (-A)") from error
    except OSError as error:
        raise StartError(f"cannot run on processor {cpu} (-A): {error.strerror}") from error
