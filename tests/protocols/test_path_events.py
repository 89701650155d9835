"""The table of signs: only a peer that was never heard, and a connection that is over, end anything."""

from __future__ import annotations

import errno
import os
import socket

import numpy as np
import pytest

from iperfpy.protocols import path_events
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import MOST_ERRORS, DatagramSocket
from iperfpy.protocols.errors import StreamPathError, StreamPeerError
from iperfpy.protocols.path_events import (
    CONSEQUENCES,
    Consequence,
    Moment,
    PathEvents,
    Sign,
    connection_sign,
    consequence,
    datagram_sign,
)

AFTER_OPENING = (Moment.RUNNING, Moment.ENDING)
FAULTS_OF_OURS = {errno.EBADF, errno.ENOTSOCK, errno.EFAULT, errno.ENOTCONN, errno.EDESTADDRREQ, errno.EPIPE}


def test_the_table_has_a_row_for_every_sign() -> None:
    assert CONSEQUENCES.keys() == set(Sign)
    assert len(Sign.__members__) == len(set(Sign))  # no sign is an alias of another


@pytest.mark.parametrize("moment", AFTER_OPENING)
def test_no_error_of_a_datagram_ends_a_stream_whose_peer_was_heard(moment: Moment) -> None:
    ending = {
        code
        for code in errno.errorcode
        if consequence(datagram_sign(code), moment) in (Consequence.END, Consequence.END_IN_TIME)
    }
    assert ending == {*FAULTS_OF_OURS, errno.EOPNOTSUPP, errno.ESHUTDOWN}


@pytest.mark.parametrize(
    ("code", "sign"),
    [
        (errno.ECONNREFUSED, Sign.REFUSED),
        (errno.ENETUNREACH, Sign.UNREACHABLE),
        (errno.EHOSTUNREACH, Sign.UNREACHABLE),
        (errno.ENETDOWN, Sign.UNREACHABLE),
        (errno.EADDRNOTAVAIL, Sign.UNREACHABLE),
        (errno.EINVAL, Sign.OTHER),
    ],
)
def test_an_error_ends_an_attempt_only_before_the_peer_was_heard(code: int, sign: Sign) -> None:
    assert datagram_sign(code) is sign
    assert consequence(sign, Moment.OPENING) is Consequence.END
    assert {consequence(sign, moment) for moment in AFTER_OPENING} == {Consequence.COUNT}


def test_a_datagram_that_is_too_long_is_left_to_the_owner_of_the_size() -> None:
    sign = datagram_sign(errno.EMSGSIZE)
    assert {consequence(sign, moment) for moment in Moment} == {Consequence.RESIZE}


def test_silence_ends_nothing_while_data_flows() -> None:
    assert CONSEQUENCES[Sign.SILENCE] == (Consequence.END_IN_TIME, Consequence.ROWS, Consequence.END_IN_TIME)


@pytest.mark.parametrize("code", [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH])
def test_every_error_of_a_connection_is_final(code: int) -> None:
    assert {consequence(connection_sign(code), moment) for moment in Moment} == {Consequence.END}


def test_a_read_in_vain_of_a_connection_is_repeated() -> None:
    assert consequence(connection_sign(errno.EAGAIN), Moment.RUNNING) is Consequence.RETRY


def test_events_tell_what_was_seen_since_the_peer_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    events, times = PathEvents(), iter([10, 20, 30, 40, 2_000_000])
    monkeypatch.setattr(path_events, "now_us", lambda: next(times))
    for code in (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EAGAIN, errno.ENETUNREACH):
        events.note(code)
    assert events.since(5) == (Sign.REFUSED, Sign.UNREACHABLE)
    assert events.since(10) == (Sign.UNREACHABLE,)
    assert events.since(40) == ()
    refused, unreachable = events.warnings("192.0.2.1")
    assert refused.startswith("192.0.2.1 was reported to have closed its UDP port")
    assert refused.endswith(", once")
    assert unreachable.endswith(", 2 times")


def test_an_error_without_a_sentence_is_told_in_the_words_of_the_system() -> None:
    events = PathEvents()
    events.note(errno.EINVAL)
    assert events.warnings("192.0.2.1") == ("192.0.2.1 could not be sent to (Invalid argument), once",)


def test_refusals_that_begin_in_the_last_moments_are_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that has ended the test has closed its port, and its message of the end comes after."""
    at_us = 5_000_000
    monkeypatch.setattr(path_events, "now_us", lambda: at_us)
    events = PathEvents()
    events.note(errno.ECONNREFUSED)
    events.note(errno.ENETUNREACH)
    assert [text for text in events.warnings("192.0.2.1") if "closed its UDP port" in text] == []
    assert len(events.warnings("192.0.2.1")) == 1
    at_us += path_events.LAST_MOMENTS_US
    events.note(errno.ECONNREFUSED)
    assert len(events.warnings("192.0.2.1")) == 2


def test_refusals_after_which_nothing_was_heard_are_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end without a control connection waits for the silence of its peer, longer than the last moments."""
    at_us = 5_000_000
    monkeypatch.setattr(path_events, "now_us", lambda: at_us)
    events = PathEvents()
    events.note(errno.ECONNREFUSED)
    at_us += 3 * path_events.LAST_MOMENTS_US
    # The kernel reports a refusal before the datagrams that wait to be read.
    assert events.warnings("192.0.2.1", heard_us=5_000_100) == ()
    # A peer that was heard later was there.
    assert len(events.warnings("192.0.2.1", heard_us=7_000_000)) == 1


# -- a datagram socket


class BrokenSocket:
    """A socket: its next calls fail with the given errors, and then succeed."""

    family = socket.AF_INET

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.sent: list[int] = []

    def _fail(self) -> None:
        if self.codes:
            code = self.codes.pop(0)
            raise OSError(code, os.strerror(code))

    def sendmsg(self, buffers: object, ancillary: object, flags: int, address: object) -> int:
        assert isinstance(buffers, tuple)
        self._fail()
        self.sent.append(len(buffers[0]))
        return len(buffers[0])

    def recvmsg_into(self, buffers: object, size: int) -> None:
        self._fail()
        raise BlockingIOError

    def setblocking(self, flag: bool) -> None: ...

    def setsockopt(self, *arguments: object) -> None: ...

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 1)


def broken(*codes: int) -> tuple[DatagramSocket, BrokenSocket]:
    fake = BrokenSocket(*codes)
    return DatagramSocket(fake, offload=False), fake  # type: ignore[arg-type]


def batch(count: int) -> DatagramBatch:
    return DatagramBatch.of(np.zeros(count * 100, np.uint8), 100)


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.ECONNREFUSED, errno.EINVAL, errno.EPERM])
def test_an_error_that_lasts_loses_datagrams_and_is_counted(code: int) -> None:
    sock, fake = broken(*[code] * 4)
    assert sock.send(batch(3)) == 3
    assert fake.sent == [100]  # the third one left
    assert sock.events.counts == {datagram_sign(code): 2}


def test_an_error_about_an_earlier_datagram_does_not_lose_the_next() -> None:
    sock, fake = broken(errno.EHOSTUNREACH)
    assert sock.send(batch(3)) == 3
    assert fake.sent == [100, 100, 100]
    assert sock.events.counts == {Sign.UNREACHABLE: 1}


def test_a_socket_that_cannot_be_used_raises() -> None:
    sock, _ = broken(errno.EBADF, errno.EBADF)
    with pytest.raises(StreamPathError, match="Bad file"):
        sock.send(batch(1))
    sock, _ = broken(errno.EBADF)
    with pytest.raises(StreamPathError, match="Bad file"):
        sock.receive()


def test_an_error_that_lasts_does_not_hold_the_reader() -> None:
    sock, fake = broken(*[errno.ECONNREFUSED] * (2 * MOST_ERRORS))
    assert sock.receive() is None
    assert len(fake.codes) == MOST_ERRORS


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        ([errno.ECONNREFUSED], StreamPeerError),
        ([errno.ENETUNREACH], StreamPathError),
        ([errno.EINVAL], StreamPathError),
        ([errno.ENETUNREACH, errno.ECONNREFUSED], StreamPeerError),
    ],
)
def test_check_raises_for_a_caller_that_has_not_heard_its_peer(
    codes: list[int], error: type[Exception]
) -> None:
    sock, _ = broken(*codes)
    sock.check()
    sock.receive()
    with pytest.raises(error):
        sock.check()
