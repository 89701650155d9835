"""The errors of this program. The text of each is a sentence for the user that names the side at fault.

IperfpyError                a test, or the program, cannot go on; exit status 1
├── ParameterError          the command line cannot be understood, or contradicts itself
├── StartError              the process cannot be set up: log file, PID file, daemon, processor
├── KeyFileError            a file holds no usable key, or no list of users
├── PlanError               the test cannot be run as asked: an option, a transport, a value
├── ListenError             the server cannot listen at its address
├── ConnectError            the server could not be reached: unknown host, refused, silent
│   └── RefusedError        the server refused the connection, or closed it at once
├── PeerError               the peer refused, or reported a failure of its own
│   └── PeerTerminatedError  the peer was stopped by its user
├── ProtocolError           the peer broke the control protocol
├── PathError               a data stream failed, or carried nothing for too long
├── LateError               the peer did not answer in time
├── FaultError              a transport, or this program, has a fault: an exception of another kind
├── DocumentError           a stored run cannot be read back
├── LabError                a run of the lab did not begin, or broke off
└── InterruptError          the user stopped this end; exit status 0, as in iperf3 since 3.19

Transports raise the errors of `iperfpy.protocols.errors`. A test calls a transport in `guarding`,
which translates them, and makes a fault that names the transport of any other exception. The command line
reports the ones that parsing raises as a `ParameterError`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from iperfpy.error_numbers import ErrorNumber
from iperfpy.protocols import errors as transport_errors
from iperfpy.protocols.system_reasons import system_reason as system_reason

log = logging.getLogger(__name__)

LONGEST_CAUSE = 300
"""Characters of a foreign exception that a sentence quotes."""


class IperfpyError(Exception):
    """A test, or the program, cannot go on; the text is one sentence for the user."""

    exit_status: int = 1
    run: Any = None
    """The `iperfpy.Run` of the test that failed, as far as it got; None if no test is concerned."""
    diagnosis: Any = None
    """The `iperfpy.PathReport` of the diagnosis that failed, as far as it got; None if it was none."""
    comparison: Any = None
    """The `iperfpy.ComparisonReport` of the comparison that failed, as far as it got; None if it was none."""


class ParameterError(IperfpyError):
    """The command line cannot be understood, or asks for contradictory things.

    The text may quote the user's words: control characters in it become "?", so that it is one line.
    """

    def __init__(self, text: str) -> None:
        super().__init__("".join(character if character.isprintable() else "?" for character in text))


class StartError(IperfpyError):
    """The process cannot be set up as asked."""


class KeyFileError(IperfpyError):
    """A file holds no usable key, or no list of users. The text is a predicate of the file's name."""


class PlanError(IperfpyError):
    """The test cannot be run as asked. `i_errno` is the number that iperf3 gives to this reason."""

    def __init__(self, text: str, i_errno: int = ErrorNumber.PARAMETERS) -> None:
        super().__init__(text)
        self.i_errno = i_errno


class ListenError(IperfpyError):
    """The server cannot listen at the address and port of its options."""


class ConnectError(IperfpyError):
    """The server could not be reached."""


class RefusedError(ConnectError):
    """The server refuses connections, or closes them at once; a moment later it may accept one."""


class PeerError(IperfpyError):
    """The peer refused the test, or reported that it failed."""


class PeerTerminatedError(PeerError):
    """The peer was stopped by its user."""


class ProtocolError(IperfpyError):
    """The peer sent a message that the control protocol does not allow at that point."""


class PathError(IperfpyError):
    """A data stream could not be opened, failed, or carried nothing for too long."""


class LateError(IperfpyError):
    """The peer did not answer before a deadline."""


class FaultError(IperfpyError):
    """A transport, or this program, raised an exception that it does not raise on purpose; `__cause__` is
    that exception."""


class DocumentError(IperfpyError):
    """A stored run cannot be read: the file, its JSON, or a record in it."""


class LabError(IperfpyError):
    """A run of the lab did not begin, or broke off. `exit_status` is that of the program."""

    def __init__(self, text: str, exit_status: int = 1) -> None:
        super().__init__(text)
        self.exit_status = exit_status


class InterruptError(IperfpyError):
    """The user stopped this end: by a signal, or by cancelling the test."""

    exit_status = 0


def fault_of(error: BaseException, culprit: str = "this program", where: str = "") -> FaultError:
    """The error for an exception that was not raised on purpose. `culprit`: the part that raised it; `where`
    ("stream 1") is put before the sentence."""
    try:
        text = str(error)
    except Exception:  # an exception with a fault of its own
        text = ""
    # One line of a length that fits into a message to the peer.
    text = "".join(character if character.isprintable() else " " for character in text)[:LONGEST_CAUSE]
    cause = f"{type(error).__name__}: {text}" if text else type(error).__name__
    sentence = f"{culprit} has a fault: {cause} (-d shows where)"
    fault = FaultError(f"{where}: {sentence}" if where else sentence)
    fault.__cause__ = error
    return fault


def from_exception(error: BaseException, culprit: str, where: str = "") -> IperfpyError:
    """The error of a test for any exception of one of its parts. `culprit`, `where`: see `fault_of`."""
    if isinstance(error, IperfpyError):
        return error
    if isinstance(error, transport_errors.TransportError):
        return from_transport(error, where)
    if isinstance(error, OSError):
        text = error.strerror or str(error) or type(error).__name__
        return PathError(f"{where}: {text}" if where else text)
    return fault_of(error, culprit, where)


@contextlib.contextmanager
def guarding(transport: str, where: str = "") -> Iterator[None]:
    """A context around calls of a transport.

    Parameters
    ----------
    transport : its name
    where : the stream ("stream 1"), or empty

    Raises
    ------
    IperfpyError
        For every exception, except a cancellation that this program asked for, and KeyboardInterrupt.
    """
    try:
        yield
    except (IperfpyError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if _was_asked_for(error):
            raise
        known = from_exception(error, culprit(transport), where)
        if isinstance(known, FaultError):
            log.debug("%s", known, exc_info=error)
        raise known from error


def culprit(transport: str) -> str:
    """The name of a transport in the sentence of its fault."""
    return f"the transport {transport}"


def _was_asked_for(error: BaseException) -> bool:
    """True for the cancellation of the present task, if somebody has cancelled it."""
    import asyncio  # not at the top: `--help` loads this module, and no event loop

    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs: nothing was cancelled
        return False
    return task is not None and task.cancelling() > 0


def from_transport(error: transport_errors.TransportError, where: str = "") -> IperfpyError:
    """Translate a transport's error. `where` ("stream 1") is put before its sentence."""
    text = f"{where}: {error}" if where else str(error)
    if isinstance(error, transport_errors.SettingsError):
        return PlanError(text)
    if isinstance(error, transport_errors.StreamPeerError):
        return PeerError(text)
    return PathError(text)
