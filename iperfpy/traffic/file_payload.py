"""-F: a file in place of made-up payload. Whoever sends reads it, whoever receives writes it.

One file is one stream; its end is the end of what is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import FileIO

from iperfpy.errors import PlanError
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Stream, Transport
from iperfpy.protocols.errors import PathError, SettingsError, TransportError
from iperfpy.traffic.transfer import OpenStream

IE_FILE, IE_DATAGRAMS_AND_FILE = 14, 34


def check_file(plan: Plan, transport: Transport) -> None:
    """Raise `PlanError` for a test that a file does not fit, with iperf3's number for it."""
    if not transport.reliable:
        text = f"a file (-F) does not go over {transport.name}, which may lose parts of it"
        raise PlanError(text, IE_DATAGRAMS_AND_FILE)
    if plan.parallel > 1 or plan.direction is Direction.BIDIRECTIONAL:
        raise PlanError("a file (-F) goes over one stream, in one direction", IE_FILE)
    try:
        plan.settings.check_file()
    except SettingsError as error:
        raise PlanError(str(error), IE_FILE) from None


def with_file(opened: OpenStream, path: str) -> OpenStream:
    """The stream with the file that it carries; without a path, as it is. Raises `PlanError`, or
    `SettingsError` when the transport cannot say what it has received."""
    if not path:
        return opened
    if opened.stream.sends:
        return replace(opened, file=open_file(path, opened.stream))
    file = open_file(path, opened.stream)
    try:
        opened.channel.keep(writer(file))
    except TransportError:
        file.close()
        raise
    return replace(opened, file=file)


def open_file(path: str, stream: Stream) -> FileIO:
    """Open to be sent, or to be filled; what it held before is gone then. Raises `PlanError`."""
    try:
        return FileIO(path, "r" if stream.sends else "w")
    except OSError as error:
        verb = "read" if stream.sends else "write"
        raise PlanError(f"cannot {verb} the file {path}: {error.strerror}", IE_FILE) from error


def writer(file: FileIO) -> Callable[[memoryview], None]:
    """What a channel calls with payload as it comes in order."""

    def write(payload: memoryview) -> None:
        rest = payload.cast("B")
        try:
            while len(rest):
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise PathError(f"cannot write the file {file.name}: {error.strerror}") from error

    return write
