"""The sending end of a UDP stream: blocks of a load become numbered datagrams, as many per call as the kernel
takes.

    thread       send_share: load -> credit (bytes) -> GSO batch -> socket; now and then a probe
    event loop   take_reply: echoes give the round-trip time

A *GSO batch* is a buffer of equal datagrams that the kernel splits on the way out (UDP_SEGMENT). The sender
sets the segment size once, as a socket option. `DatagramSocket._send_gso_batch` sends batches of changing
segment size, with the size in each call.
"""

from __future__ import annotations

import errno
import socket

import numpy as np

from iperfpy.protocols.arrival_lumps import lump_us
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Load
from iperfpy.protocols.log_histogram import LogHistogram
from iperfpy.protocols.operating_system import (
    SOL_UDP,
    UDP_SEGMENT,
    error_text,
    monotonic_ns,
)
from iperfpy.protocols.path_events import Consequence, Moment, PathEvents, Sign, consequence, datagram_sign
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.udp import UdpSettings, echo
from iperfpy.protocols.udp.packets import Outgoing

VISIT_BYTES, VISIT_US = 1 << 20, 2_000
"""A visit ends after so many bytes or so much time, whichever comes first: other streams share the thread."""
DEVICE_FULL_US = 100
"""Pause after ENOBUFS before retrying: the socket reports that it has room."""
UNREACHABLE_US = 2_000
"""Pause before a datagram that could not leave (no route) is tried again. It counts as sent only when it has
left: a sender without a rate would count millions that the kernel never took."""

_WAITS_FOR_ROOM = {errno.EAGAIN, errno.EWOULDBLOCK}
_GSO_REFUSED = {errno.EINVAL, errno.EIO, errno.EMSGSIZE}


class DatagramSender:
    """Sends one stream. `send_share` runs in a thread, all other public methods on the event loop's.

    Parameters
    ----------
    sock : connected and non-blocking
    gso : True if the kernel may be given several datagrams at once
    conv : the stream's conv to measure round-trip times, or 0 not to
    """

    def __init__(
        self,
        sock: socket.socket,
        block_bytes: int,
        settings: UdpSettings,
        events: PathEvents,
        *,
        conv: int,
        gso: bool,
    ) -> None:
        self._sock = sock
        self._outgoing = Outgoing(
            block_bytes, wide=settings.wide_counters, repeating=settings.repeating_payload
        )
        self._header_bytes = settings.header_bytes
        self._prober = echo.Prober(conv, settings.echoes) if conv else None
        self._may_use_gso = gso
        self._uses_gso = False
        self._events = events
        self._load: Load | None = None
        self._batch_datagrams = 1
        self._credit_bytes = 0  # taken from the load, and not sent yet
        self._pause_us = 0  # before the next attempt, after an error of the last one
        self._last_bytes = 0  # length of the shorter datagram at the end
        self.filtered = 0

    # ------------------------------------------------------------------ figures

    @property
    def datagrams(self) -> int:
        """Datagrams that left."""
        return self._outgoing.sent + (self._last_bytes > 0)

    @property
    def payload_bytes(self) -> int:
        """Payload bytes that left, headers of the datagrams included, as iperf3 counts them."""
        return self._outgoing.sent * self._outgoing.block_bytes + self._last_bytes

    def rtt_us(self) -> float | None:
        """The latest round-trip time; None if there is none, or it is too old."""
        return self._prober.rtt_us(now_us()) if self._prober else None

    def evidence(self, headers_bytes: int) -> PathEvidence | None:
        """Round-trip times of the echoes. `headers_bytes`: of IP and UDP, in each packet."""
        prober = self._prober
        rtts = prober.rtts if prober is not None else LogHistogram()
        return PathEvidence(
            min_rtt_us=rtts.percentile(0) if rtts.count else None,
            rtt_us=rtts.record(),
            lump_us=lump_us(np.array(prober.arrivals_us), prober.interval_us) if prober else None,
            packet_bytes=self._outgoing.block_bytes + headers_bytes,
            extra={"echoes": rtts.count},
        )

    # ------------------------------------------------------------------ the event loop's thread

    def take_reply(self, datagram: bytes, arrived_us: float) -> None:
        """Take a datagram of the receiver."""
        if self._prober is not None:
            self._prober.take_echo(datagram, arrived_us)

    # ------------------------------------------------------------------ the sending thread

    def begin(self, load: Load) -> None:
        """Let the visits that follow send `load`."""
        self._load = load
        self._batch_datagrams = self._batch_size()

    def send_share(self) -> int:
        """Send whole datagrams of the load, about `VISIT_BYTES` of them; at the load's end a shorter one for
        the rest, if the rest holds a header. Returns the time of the next visit. Raises `OSError`."""
        load, prober, count = self._load, self._prober, self._batch_datagrams
        block_bytes = self._outgoing.block_bytes
        assert load is not None, "begin() comes first"
        batch_bytes, left_bytes, began_us = count * block_bytes, VISIT_BYTES, 0
        while left_bytes > 0:
            wait_us, now = 0, monotonic_ns() // 1000  # inlined: once per batch
            began_us = began_us or now
            if prober is not None and now >= prober.next_us and not self._send_probe(prober, now):
                return 0
            # A paced load gives less than a batch at a time: gather until it makes the sender wait.
            while self._credit_bytes < batch_bytes and not wait_us:
                wait_us = load.wait_us(now)
                if not wait_us:
                    self._credit_bytes += len(load.take())
            if self._credit_bytes >= block_bytes:
                sent_bytes = block_bytes * self._send_batch(
                    min(count, self._credit_bytes // block_bytes), now
                )
                if not sent_bytes:
                    return self._pause_us
                self._credit_bytes -= sent_bytes
                left_bytes -= sent_bytes if now - began_us < VISIT_US else VISIT_BYTES
            elif wait_us < 0:
                return -1 if self._send_last(self._credit_bytes) else self._pause_us
            else:
                # A slow load must not slow the probes down.
                return wait_us if prober is None else min(wait_us, max(0, prober.next_us - now))
        return 0

    def _batch_size(self) -> int:
        """Datagrams per GSO batch; 1 without GSO."""
        if self._may_use_gso and self._set_segment_bytes(self._outgoing.block_bytes):
            return self._outgoing.batch_size
        return 1

    def _set_segment_bytes(self, segment_bytes: int) -> bool:
        """Switch GSO on, or off with 0. False if the kernel refuses."""
        try:
            self._sock.setsockopt(SOL_UDP, UDP_SEGMENT, segment_bytes)
        except OSError:
            return False
        self._uses_gso = segment_bytes > 0
        return True

    def _send_batch(self, count: int, now: int) -> int:
        """Send at most `count` datagrams with one call. Returns how many left."""
        outgoing = self._outgoing
        view = outgoing.stamp(count, now)
        count = len(view) // outgoing.block_bytes
        # GSO may have been switched off since the batch size was chosen.
        if count > 1 and not self._uses_gso:
            view, count = view[: outgoing.block_bytes], 1
        try:
            self._sock.send(view)
        except OSError as error:
            count = self._lost_after(error, view, count)
        outgoing.advance(count)
        return count

    def _send_last(self, size: int) -> bool:
        """Send a shorter datagram for the last `size` bytes of the load. True if there was room for it."""
        if size < self._header_bytes:
            return True
        view = self._outgoing.stamp(1, now_us())[:size]
        # The second attempt is for an error about an earlier datagram, which took the place of sending.
        for _ in range(2):
            code = self._error_of(view)
            if not code:
                self._last_bytes = size
                return True
            if datagram_sign(code) is Sign.NO_ROOM:
                self._pause_us = _pause_us(code)
                return False
            self._events.note(code)
        return True

    def _send_probe(self, prober: echo.Prober, now: int) -> bool:
        """Ask for an echo. True if there was room; else there is none for data, either."""
        code = self._error_of(prober.probe(now))
        if code in _WAITS_FOR_ROOM:
            prober.unsent()
            return False
        # Another error reports an earlier datagram, and the next data datagram meets it as well.
        return True

    def _lost_after(self, error: OSError, view: memoryview, count: int) -> int:
        """The number of datagrams in `view`, of `count`, that left or are gone after `send` failed; 0: try
        them again after `_pause_us`. Raises `OSError` if the table of path_events.py says that the stream
        ends."""
        code = error.errno or errno.EIO
        sign = datagram_sign(code)
        if sign is Sign.FILTERED:  # a packet filter of this machine
            self._events.note(code)
            self.filtered += count
            return count
        if sign is Sign.NO_ROOM:
            self._pause_us = _pause_us(code)
            return 0
        # The kernel reports an error about an earlier datagram once, in place of sending these.
        again = self._error_of(view)
        if not again:
            self._events.note(code)
            return count
        if self._uses_gso and again in _GSO_REFUSED:
            # A datagram alone tells a batch that was refused, because its datagrams are longer than the
            # interface's MTU where IP may still fragment one, from an error that any datagram meets.
            self._set_segment_bytes(0)
            alone = self._error_of(view[: self._outgoing.block_bytes])
            if not alone:
                return 1
            if alone != errno.EMSGSIZE:
                self._set_segment_bytes(self._outgoing.block_bytes)
            again = alone
        sign = datagram_sign(again)
        if sign is Sign.NO_ROOM:
            self._pause_us = _pause_us(again)
            return 0
        self._events.note(again)
        if consequence(sign, Moment.RUNNING) in (Consequence.END, Consequence.RESIZE):
            raise OSError(again, error_text(again))
        self._pause_us = UNREACHABLE_US
        return 0

    def _error_of(self, view: memoryview | bytes) -> int:
        """Send `view`. Returns 0 if it left, else the errno."""
        try:
            self._sock.send(view)
        except OSError as error:
            return error.errno or errno.EIO
        return 0


def _pause_us(code: int) -> int:
    """The pause after an error for want of room: 0 if the socket reports when it has room again."""
    return 0 if code in _WAITS_FOR_ROOM else DEVICE_FULL_US
