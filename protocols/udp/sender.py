"""The sending end of a UDP stream: blocks of a load become numbered datagrams, as many per call as the kernel
takes.

    thread       send_all: load -> credit (bytes) -> GSO batch -> socket; now and then a probe
    event loop   take_reply: echoes give the round-trip time

A *GSO batch* is a buffer of equal datagrams that the kernel splits on the way out (UDP_SEGMENT). The sender
sets the segment size once, as a socket option. `DatagramSocket._send_gso_batch` sends batches of changing
segment size, with the size in each call.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time

from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Load
from iperfpy.protocols.operating_system import (
    NOT_WAITING,
    SOL_UDP,
    UDP_SEGMENT,
    error_text,
    monotonic_ns,
)
from iperfpy.protocols.path_events import Consequence, Moment, PathEvents, Sign, consequence, datagram_sign
from iperfpy.protocols.udp import UdpSettings, echo
from iperfpy.protocols.udp.packets import Outgoing

NAP_US = 2_000
"""Shorter waits are slept through; longer ones end when the channel is closed."""
DEVICE_FULL_S = 0.000_1
"""Pause after ENOBUFS before retrying."""
UNREACHABLE_S = 0.002
"""Pause before a datagram that could not leave (no route) is tried again. It counts as sent only when it has
left: a sender without a rate would count millions that the kernel never took."""

_GSO_REFUSED = {errno.EINVAL, errno.EIO, errno.EMSGSIZE}


class DatagramSender:
    """Sends one stream. `send_all` runs in the channel's thread, all other methods on the event loop's.

    Parameters
    ----------
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
        self._prober = echo.Prober(conv) if conv else None
        self._may_use_gso = gso
        self._uses_gso = False
        self._events = events
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

    # ------------------------------------------------------------------ the event loop's thread

    def take_reply(self, datagram: bytes, arrived_us: float) -> None:
        """Take a datagram of the receiver."""
        if self._prober is not None:
            self._prober.take_echo(datagram, arrived_us)

    # ------------------------------------------------------------------ the sending thread

    def send_all(self, load: Load, stopping: threading.Event) -> None:
        """Send whole datagrams until the load ends or `stopping` is set; at the load's end a shorter one for
        the rest, if the rest holds a header. Raises `OSError`."""
        outgoing, prober = self._outgoing, self._prober
        count, block_bytes = self._batch_size(), outgoing.block_bytes
        credit, batch_bytes = 0, count * block_bytes
        while not stopping.is_set():
            wait_us, now = 0, monotonic_ns() // 1000  # inlined: once per batch
            if prober is not None and now >= prober.next_us:
                self._send_probe(prober, now)
            # A paced load gives less than a batch at a time: gather until it makes the sender wait.
            while credit < batch_bytes and not wait_us:
                wait_us = load.wait_us(now)
                if not wait_us:
                    credit += len(load.take())
            if credit >= block_bytes:
                credit -= block_bytes * self._send_batch(min(count, credit // block_bytes), now)
            elif wait_us < 0:
                self._send_last(credit)
                return
            elif wait_us < NAP_US:
                time.sleep(wait_us / 1e6)
            else:
                stopping.wait(wait_us / 1e6)

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

    def _send_last(self, size: int) -> None:
        """Send a shorter datagram for the last `size` bytes of the load."""
        if size < self._header_bytes:
            return
        view = self._outgoing.stamp(1, now_us())[:size]
        # The second attempt is for an error about an earlier datagram, which took the place of sending.
        for _ in range(2):
            code = self._error_of(view)
            if not code:
                self._last_bytes = size
            if not code or datagram_sign(code) is Sign.NO_ROOM:
                return
            self._events.note(code)

    def _send_probe(self, prober: echo.Prober, now: int) -> None:
        """Ask for an echo. A wait for room in the socket is not part of the round trip."""
        probe = prober.probe(now)
        # An error reports an earlier datagram, and the next data datagram meets it as well.
        with contextlib.suppress(OSError):
            try:
                self._sock.send(probe, NOT_WAITING)
            except BlockingIOError:
                self._sock.send(probe)
                prober.delayed(now_us())

    def _lost_after(self, error: OSError, view: memoryview, count: int) -> int:
        """The number of datagrams in `view`, of `count`, that left or are gone after `send` failed; 0: try
        them again. Raises `OSError` if the table of path_events.py says that the stream ends."""
        code = error.errno or errno.EIO
        sign = datagram_sign(code)
        if sign is Sign.FILTERED:  # a packet filter of this machine
            self._events.note(code)
            self.filtered += count
            return count
        if sign is Sign.NO_ROOM:
            if code == errno.ENOBUFS:  # the device's queue is full
                time.sleep(DEVICE_FULL_S)
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
            return 0
        self._events.note(again)
        if consequence(sign, Moment.RUNNING) in (Consequence.END, Consequence.RESIZE):
            raise OSError(again, error_text(again))
        time.sleep(UNREACHABLE_S)
        return 0

    def _error_of(self, view: memoryview) -> int:
        """Send `view`. Returns 0 if it left, else the errno."""
        try:
            self._sock.send(view)
        except OSError as error:
            return error.errno or errno.EIO
        return 0
