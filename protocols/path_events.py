"""The one table of signs that a path or a peer gives, and their consequences in each part of a test.

A *sign* is an error that the kernel reports for a socket, or a silence. An error about one datagram is an
event to count: a link that goes down and comes up, a firewall that is loaded anew, or a route that changes
disturbs a test and does not end it, as TCP rides through the same. Only before anything was heard from the
peer does such an error end the attempt, because then it most likely says that the peer is not there.

    sign = datagram_sign(errno)                    of a UDP socket
    sign = connection_sign(errno)                  of a TCP connection
    consequence(sign, Moment.RUNNING)              the table `CONSEQUENCES`
    PathEvents                                     the count of one socket's signs

errno in <errno.h>; Linux derives those of ICMP messages in net/ipv4/icmp.c (`icmp_err_convert`) and
net/ipv6/icmp.c (`tab_unreach`).
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Mapping
from typing import NamedTuple

from iperfpy.protocols.clock import now_us

LAST_MOMENTS_US = 1_000_000
"""Time within which the message that ends a test follows the first datagram to a closed port."""


class Moment(enum.Enum):
    """Part of a test."""

    OPENING = "nothing has been heard from the peer yet"
    RUNNING = "data flows until the planned end"
    ENDING = "the planned end is over, and the results are awaited"


class Sign(enum.Enum):
    """A sign, by its cause. The text is a predicate of the peer's name."""

    SILENCE = "has sent nothing"
    REFUSED = "was reported to have closed its UDP port (ICMP port unreachable)"
    UNREACHABLE = "was reported to be unreachable (no route, or an ICMP message)"
    FILTERED = "could not be sent to, by a rule of this machine's firewall or routing"
    TOO_LONG = "is behind a path that refuses datagrams of this length"
    NO_ROOM = "could not be sent to, because a send queue of this machine was full"
    OTHER = "could not be sent to"
    MOVED = "went on from another address"
    ELSEWHERE = "may have another address: datagrams of its stream came from one, and were dropped"
    CLOSED = "closed the connection"
    GIVEN_UP = "acknowledged nothing until the kernel gave the connection up"
    UNUSABLE = "could not be sent to: the socket is closed"


class Consequence(enum.Enum):
    """A consequence of a sign."""

    COUNT = "the sign is counted, and the socket is used on"
    RETRY = "the datagram did not leave, and is sent again"
    RESIZE = "the owner of the datagram size chooses a smaller one, or ends the stream"
    ROWS = "intervals are reported with zeros"
    END = "the stream, or the attempt to open it, ends with an error"
    END_IN_TIME = "the test ends with an error if the sign lasts"


class Consequences(NamedTuple):
    """One row of the table."""

    opening: Consequence
    running: Consequence
    ending: Consequence


_COUNT, _RETRY, _RESIZE, _ROWS, _END, _IN_TIME = Consequence

CONSEQUENCES: Mapping[Sign, Consequences] = {
    # sign                       before anything was heard, while data flows, after the planned end
    Sign.SILENCE: Consequences(_IN_TIME, _ROWS, _IN_TIME),
    Sign.REFUSED: Consequences(_END, _COUNT, _COUNT),
    Sign.UNREACHABLE: Consequences(_END, _COUNT, _COUNT),
    Sign.FILTERED: Consequences(_COUNT, _COUNT, _COUNT),
    Sign.TOO_LONG: Consequences(_RESIZE, _RESIZE, _RESIZE),
    Sign.NO_ROOM: Consequences(_RETRY, _RETRY, _RETRY),
    Sign.OTHER: Consequences(_END, _COUNT, _COUNT),
    # The new address has proven itself (datagrams/address_proof.py). A bare peer with AES-GCM moves first,
    # and gets at most the bytes that came until it has echoed a random stamp (kcp/envelope/bare_engine.py).
    Sign.MOVED: Consequences(_COUNT, _COUNT, _COUNT),
    # Nothing proves that they are the peer's: the stream stays where it is.
    Sign.ELSEWHERE: Consequences(_COUNT, _COUNT, _COUNT),
    # A connection that is over cannot be used on, and no datagram of it is meant.
    Sign.CLOSED: Consequences(_END, _END, _END),
    Sign.GIVEN_UP: Consequences(_END, _END, _END),
    # The descriptor is closed or of the wrong kind: a fault of this program, which must not be counted away.
    Sign.UNUSABLE: Consequences(_END, _END, _END),
}


def _codes(*names: str) -> frozenset[int]:
    """The numbers of the errors that this system has."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_NO_ROOM = _codes("EAGAIN", "EWOULDBLOCK", "EINTR", "ENOBUFS", "ENOMEM")
_UNUSABLE = _codes("EBADF", "ENOTSOCK", "EFAULT", "ENOTCONN", "EDESTADDRREQ", "EOPNOTSUPP")

_DATAGRAM_SIGNS: Mapping[int, Sign] = {
    # ECONNRESET: Windows reports ICMP port unreachable so
    **dict.fromkeys(_codes("ECONNREFUSED", "ECONNRESET"), Sign.REFUSED),
    **dict.fromkeys(
        # EADDRNOTAVAIL, ENODEV, ENXIO: the local address, or the interface of --bind-dev, is gone
        _codes(
            *("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "EHOSTDOWN", "ENONET", "ENOPROTOOPT", "EPROTO"),
            *("EADDRNOTAVAIL", "ENODEV", "ENXIO", "ETIMEDOUT"),
        ),
        Sign.UNREACHABLE,
    ),
    # EPERM of a packet filter, EACCES of a "prohibit" route or of ICMPv6 "administratively prohibited"
    **dict.fromkeys(_codes("EPERM", "EACCES"), Sign.FILTERED),
    **dict.fromkeys(_codes("EMSGSIZE"), Sign.TOO_LONG),
    **dict.fromkeys(_NO_ROOM, Sign.NO_ROOM),
    # EPIPE: this end has shut the socket down
    **dict.fromkeys(_UNUSABLE | _codes("EPIPE", "ESHUTDOWN"), Sign.UNUSABLE),
}

_CONNECTION_SIGNS: Mapping[int, Sign] = {
    **dict.fromkeys(_codes("ECONNRESET", "EPIPE", "ECONNABORTED", "ESHUTDOWN", "ECONNREFUSED"), Sign.CLOSED),
    **dict.fromkeys(_NO_ROOM, Sign.NO_ROOM),
    **dict.fromkeys(_UNUSABLE, Sign.UNUSABLE),
}


def datagram_sign(code: int) -> Sign:
    """The sign that an errno of a UDP socket is. OTHER includes EINVAL: a "blackhole" route, or a source
    address that this machine no longer has."""
    return _DATAGRAM_SIGNS.get(code, Sign.OTHER)


def connection_sign(code: int) -> Sign:
    """The sign that an errno of a TCP connection is. The kernel keeps ICMP errors about a connection to
    itself until it gives the connection up, so that every error which it reports is final."""
    return _CONNECTION_SIGNS.get(code, Sign.GIVEN_UP)


def consequence(sign: Sign, moment: Moment) -> Consequence:
    """The entry of the table."""
    row = CONSEQUENCES[sign]
    return {Moment.OPENING: row.opening, Moment.RUNNING: row.running, Moment.ENDING: row.ending}[moment]


class PathEvents:
    """The signs that one socket has given. Any thread may note one.

    Attributes
    ----------
    counts : how often each sign was given
    first_us, last_us : time of the first and of the last one of each, by the monotonic clock
    """

    __slots__ = ("_causes", "counts", "first_us", "last_us")

    def __init__(self) -> None:
        self.counts: dict[Sign, int] = {}
        self.first_us: dict[Sign, int] = {}
        self._causes: dict[Sign, str] = {}
        self.last_us: dict[Sign, int] = {}

    def note(self, code: int) -> Sign:
        """Count the sign that the errno `code` of a UDP socket is, and return it."""
        sign = datagram_sign(code)
        # The one sign that stands for several errors.
        self.add(sign, os.strerror(code) if sign is Sign.OTHER else "")
        return sign

    def add(self, sign: Sign, cause: str = "") -> None:
        """Count a sign. `cause`: of this one, for its sentence."""
        if cause:
            self._causes[sign] = cause
        self.counts[sign] = self.counts.get(sign, 0) + 1
        self.last_us[sign] = at_us = now_us()
        self.first_us.setdefault(sign, at_us)

    @property
    def too_long(self) -> int:
        """Reports of this machine, or of ICMP messages, that a datagram was too long."""
        return self.counts.get(Sign.TOO_LONG, 0)

    def forget(self) -> None:
        """Begin anew: the peer has been heard."""
        self.counts.clear()
        self.first_us.clear()
        self.last_us.clear()

    def ending_attempt(self) -> Sign | None:
        """The noted sign that ends an attempt to reach a peer which was not heard yet; None without one. An
        answer of the peer's machine goes before other signs."""
        ending = (Sign.REFUSED, Sign.UNREACHABLE, Sign.OTHER)
        return next((sign for sign in ending if sign in self.counts), None)

    def since(self, heard_us: int) -> tuple[Sign, ...]:
        """The signs that were given later than `heard_us`, without those that say nothing about the path."""
        return tuple(
            sign for sign, at_us in list(self.last_us.items()) if _of_path(sign) and at_us > heard_us
        )

    def warnings(self, peer: str, heard_us: int | None = None) -> tuple[str, ...]:
        """One sentence per sign that was counted. A peer that has ended the test has closed its port, and its
        ICMP messages may come before its message of the end: refusals that have just begun are of the end.

        Parameters
        ----------
        heard_us : time of the latest datagram of a peer that goes on sending while it takes part. An end
            that waits for its silence has refusals from before the wait; None: the peer may be silent
        """
        ends_us = (now_us() if heard_us is None else heard_us) - LAST_MOMENTS_US
        return tuple(
            f"{peer} {sign.value}{self._cause(sign)}, {'once' if count == 1 else f'{count} times'}"
            for sign, count in list(self.counts.items())
            if _of_path(sign) and not (sign is Sign.REFUSED and self.first_us[sign] > ends_us)
        )

    def _cause(self, sign: Sign) -> str:
        """The latest cause of a sign, if it is known."""
        return f" ({self._causes[sign]})" if sign in self._causes else ""


def _of_path(sign: Sign) -> bool:
    """True if the sign is an event of the path, in a test that runs."""
    return consequence(sign, Moment.RUNNING) is Consequence.COUNT
