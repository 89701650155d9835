"""A file in place of generated payload (-F): the sender reads it, the receiver writes it.

One file goes over one stream; its end is the end of the payload. A pipe or a device has no size: it is read
as it comes, until its end or the end of the test.

A file that is written belongs to one test at a time, and so does a pipe that is read: a lock keeps other
tests out, those of other programs, too.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable
from dataclasses import replace
from io import FileIO

from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import IperfpyError, PlanError
from iperfpy.payload_file_check import check_place, payload_bytes
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Stream, Transport
from iperfpy.protocols.errors import SettingsError, StreamPathError
from iperfpy.protocols.operating_system import is_regular, lock_file
from iperfpy.traffic.open_stream import OpenStream

NONBLOCK = getattr(os, "O_NONBLOCK", 0)


def check_file(path: str, plan: Plan, transport: Transport, *, sends: bool) -> None:
    """Raise `PlanError`, with iperf3's number for the reason, if the test cannot carry the file.

    `sends`: this end reads it. Nothing is opened for writing."""
    if not transport.reliable:
        text = f"{transport.name} may lose data, so it cannot carry a file (-F)"
        raise PlanError(text, ErrorNumber.DATAGRAMS_AND_FILE)
    if plan.messages_per_s:
        raise PlanError("a test with messages carries no file (-F)", ErrorNumber.FILE)
    if plan.parallel > 1 or plan.direction is Direction.BIDIRECTIONAL:
        raise PlanError("a file (-F) goes over one stream, in one direction", ErrorNumber.FILE)
    try:
        plan.settings.check_file()
    except SettingsError as error:
        raise PlanError(str(error), ErrorNumber.FILE) from None
    if sends:
        payload_bytes(path)
    elif not transport.fills_files:
        text = f"{transport.name} cannot write received data to a file (-F)"
        raise PlanError(text, ErrorNumber.FILE)
    else:
        check_place(path)


def with_file(opened: OpenStream, path: str) -> OpenStream:
    """The stream with the file that it carries; the same stream if `path` is empty.

    Raises
    ------
    PlanError
        The file cannot be opened.
        Or the transport cannot hand over received payload.
    """
    if not path:
        return opened
    file = open_file(path, opened.stream)
    if not opened.stream.sends:
        try:
            opened.channel.keep(writer(file))
        except IperfpyError:
            file.close()
            raise
    return replace(opened, file=file)


def open_file(path: str, stream: Stream) -> FileIO:
    """The file, open to be sent or to be filled, with its content. Raises `PlanError`."""
    verb = "read" if stream.sends else "write"
    try:
        return _opened(path, os.O_RDONLY if stream.sends else os.O_WRONLY | os.O_CREAT)
    except BlockingIOError as error:
        text = f"the file {path} is in use by another test: try again when that has ended"
        raise PlanError(text, ErrorNumber.ACCESS_DENIED) from error
    except OSError as error:
        no_reader = error.errno == errno.ENXIO and not stream.sends
        reason = "no program reads this pipe" if no_reader else error.strerror
        raise PlanError(f"cannot {verb} the file {path}: {reason}", ErrorNumber.FILE) from error


def _opened(path: str, flags: int) -> FileIO:
    """Open the file without waiting. Raises OSError; BlockingIOError if another test has it."""

    # A pipe without a writer is opened at once: the event loop never waits for another program.
    def opener(name: str, _: int) -> int:
        return os.open(name, flags | NONBLOCK | getattr(os, "O_BINARY", 0), 0o666)

    file = FileIO(path, "r" if flags == os.O_RDONLY else "w", opener=opener)
    try:
        mode = os.fstat(file.fileno()).st_mode
        pipe, regular = stat.S_ISFIFO(mode), stat.S_ISREG(mode)
        # A device such as /dev/zero or /dev/null serves any number of tests, and so does a file that is read.
        if pipe or (regular and file.writable()):
            lock_file(file.fileno(), wait=False)
        if file.writable() and NONBLOCK:
            os.set_blocking(file.fileno(), True)
    except BaseException:
        file.close()
        raise
    return file


class FileSource:
    """Reads payload from a file without waiting for it."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        # Only a pipe, a terminal or a socket may have nothing yet; an empty pipe is not at its end before it
        # had a writer, which only poll tells.
        waits = not is_regular(file.fileno())
        self._poll = select.poll() if waits and hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(file.fileno(), select.POLLIN)

    def read_into(self, block: memoryview) -> int | None:
        """Fill the start of the block; give the number of bytes, 0 at the end, or None if there are none yet.

        Raises `StreamPathError` if the file cannot be read.
        """
        try:
            if self._poll is not None and not self._poll.poll(0):
                return None
            return self._file.readinto(block)
        except OSError as error:
            raise StreamPathError(f"cannot read the file {self._file.name}: {error.strerror}") from error


def writer(file: FileIO) -> Callable[[memoryview], None]:
    """A function that a channel calls with received payload. The first call replaces the content."""
    begun = False

    def write(payload: memoryview) -> None:
        nonlocal begun
        rest = payload.cast("B")
        try:
            if not begun and is_regular(file.fileno()):
                file.truncate(0)
            begun = True
            while len(rest):  # an unbuffered file may take only a part
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise StreamPathError(f"cannot write the file {file.name}: {error.strerror}") from error

    return write
