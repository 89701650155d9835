"""Everything that ends a test early. The text is the sentence that a person is shown.

IperfpyError                one sentence that says whose fault it is; exit status 1
├── PlanError               what was asked for cannot be run (an option, a transport, a value)
├── ListenError             this server cannot listen where it was told to
├── ConnectError            the server could not be reached: unknown host, refused, silent
├── PeerError               the other end refused, or reported a failure of its own
│   └── PeerTerminatedError  the other end was stopped by a signal
├── ProtocolError           the other end broke the control protocol
├── PathError               a data stream died, or nothing moved for too long
├── LateError               the other end did not answer in time
└── InterruptError          this end was stopped by a signal; exit status 0, as iperf3 since 3.19

`iperfpy.protocols.errors.TransportError` is translated by `from_transport`, and only there.
"""

from __future__ import annotations

from typing import ClassVar

from iperfpy.protocols import errors as transport_errors


class IperfpyError(Exception):
    """A test, or the program, cannot go on; the text is one sentence for a person."""

    exit_status: ClassVar[int] = 1


class PlanError(IperfpyError):
    """What was asked for cannot be run. `i_errno` is iperf3's number for it, for a peer that wants one."""

    def __init__(self, text: str, i_errno: int = 114) -> None:
        super().__init__(text)
        self.i_errno = i_errno


class ListenError(IperfpyError):
    """The server cannot listen on the address and port that it was given."""


class ConnectError(IperfpyError):
    """The server could not be reached."""


class PeerError(IperfpyError):
    """The other end refused the test, or failed and said so."""


class PeerTerminatedError(PeerError):
    """The other end was stopped by a signal."""


class ProtocolError(IperfpyError):
    """The other end sent something that the control protocol does not allow at that point."""


class PathError(IperfpyError):
    """A data stream could not be opened, died, or carried nothing for too long."""


class LateError(IperfpyError):
    """The other end did not answer before a deadline."""


class InterruptError(IperfpyError):
    """A signal stopped this end."""

    exit_status = 0


def from_transport(error: transport_errors.TransportError, where: str = "") -> IperfpyError:
    """The same sentence, as an error of this program. `where` is put before it ("stream 1")."""
    text = f"{where}: {error}" if where else str(error)
    if isinstance(error, transport_errors.SettingsError):
        return PlanError(text)
    if isinstance(error, transport_errors.PeerError):
        return PeerError(text)
    return PathError(text)
