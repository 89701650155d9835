"""A file in place of generated payload (-F): the sender reads it, the receiver writes it.

One file goes over one stream; its end is the end of the payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import FileIO

from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import PlanError
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Stream, Transport
from iperfpy.protocols.errors import PathError, SettingsError, TransportError
from iperfpy.traffic.open_stream import OpenStream


def check_file(plan: Plan, transport: Transport) -> None:
    """Raise `PlanError`, with iperf3's number for the reason, if the test cannot carry a file."""
    if not transport.reliable:
        text = f"{transport.name} may lose data, so it cannot carry a file (-F)"
        raise PlanError(text, ErrorNumber.DATAGRAMS_AND_FILE)
    if plan.parallel > 1 or plan.direction is Direction.BIDIRECTIONAL:
        raise PlanError("a file (-F) goes over one stream, in one direction", ErrorNumber.FILE)
    try:
        plan.settings.check_file()
    except SettingsError as error:
        raise PlanError(str(error), ErrorNumber.FILE) from None


def with_file(opened: OpenStream, path: str) -> OpenStream:
    """The stream with the file that it carries; the same stream if `path` is empty.

    Raises
    ------
    PlanError
        The file cannot be opened.
    SettingsError
        The transport cannot hand over received payload.
    """
    if not path:
        return opened
    file = open_file(path, opened.stream)
    if not opened.stream.sends:
        try:
            opened.channel.keep(writer(file))
        except TransportError:
            file.close()
            raise
    return replace(opened, file=file)


def open_file(path: str, stream: Stream) -> FileIO:
    """The file, open to be sent, or emptied to be filled. Raises `PlanError`."""
    try:
        return FileIO(path, "r" if stream.sends else "w")
    except OSError as error:
        verb = "read" if stream.sends else "write"
        raise PlanError(f"cannot {verb} the file {path}: {error.strerror}", ErrorNumber.FILE) from error


def writer(file: FileIO) -> Callable[[memoryview], None]:
    """A function that a channel calls with received payload, in order."""

    def write(payload: memoryview) -> None:
        rest = payload.cast("B")
        try:
            while len(rest):  # an unbuffered file may take only a part
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise PathError(f"cannot write the file {file.name}: {error.strerror}") from error

    return write
