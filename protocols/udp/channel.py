"""A UDP stream, visited by a thread that serves several streams in turn (stream_threads.py).

    sends      thread: DatagramSender.send_share   load -> datagrams      event loop: replies (echoes, calls)
    receives   thread: DatagramReader.take         datagrams -> Reception, and answers to calls and probes

The thread moves up to 64 datagrams per system call, in which the interpreter lock is not held. The event
loop's thread reads counters. A receiver is visited from the moment the stream is open: the sender may begin
before the receiving program knows that the test runs.
"""

from __future__ import annotations

import contextlib
import errno

from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Load, Stream
from iperfpy.protocols.datagrams.arrival_time import arrived_us, ask_for_stamps
from iperfpy.protocols.datagrams.path_mtu import headers_to
from iperfpy.protocols.datagrams.peer_path import DatagramPath
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.operating_system import ANCILLARY_BYTES, NOT_WAITING
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.serving_thread import READ, WRITE
from iperfpy.protocols.socket_buffers import dropped_datagrams
from iperfpy.protocols.socket_watch import SocketWatch
from iperfpy.protocols.udp import UdpSettings, echo
from iperfpy.protocols.udp.reader import DatagramReader
from iperfpy.protocols.udp.reception import Reception
from iperfpy.protocols.udp.sender import DatagramSender
from iperfpy.protocols.udp.udp_end import UdpEnd

MOST_TAKES = 16
"""Batches that a visit of a receiver reads at most, 1 MiB. It reads twice as many as the visit before, or one
after a visit that found the socket empty: to read an empty socket costs as much as to wait for a batch."""
REPLY_BYTES = 65_536
"""Room for a reply. Windows makes an error of a datagram that is longer than the room for it."""
READS_PER_WAKE = 8
"""Replies that the event loop reads at a time."""


class UdpChannel(UdpEnd):
    """One UDP stream at one end, sending or receiving; parameters as `UdpEnd`'s."""

    def __init__(self, path: DatagramPath, stream: Stream, settings: UdpSettings, call: bytes = b"") -> None:
        super().__init__(path, stream, settings, call)
        self._conv = 0 if settings.no_rtt else stream.conv
        self._watch = SocketWatch(self._sock.fileno())
        self._reply = memoryview(bytearray(REPLY_BYTES))
        self._final: dict[str, Value] | None = None
        self._longest_bytes: int | None = None  # that leaves in one packet, as far as the kernel knows
        self._reception = Reception(wide=settings.wide_counters)
        self._reader: DatagramReader | None = None
        self._takes = 1  # of the next visit
        self._sender: DatagramSender | None = None
        if stream.sends:
            gso = self._socket.uses_gso
            self._sender = DatagramSender(
                self._sock, self._block_bytes, settings, self._socket.events, conv=self._conv, gso=gso
            )

    def _begin_reading(self) -> None:
        """Listen for replies if this end sends, else receive."""
        if self._sender is not None:
            # Stamps of the replies: a busy event loop must not lengthen the round-trip time.
            ask_for_stamps(self._sock)
            self._watch.read(self._read_replies)
        else:
            wide = self._settings.wide_counters
            self._reader = DatagramReader(self._sock, self._reception, self._socket.events, wide=wide)
            self._worker.start(READ, self._receive_share)

    def warnings(self) -> tuple[str, ...]:
        """Errors about datagrams, and datagrams of this sender that travel in fragments."""
        self._note_longest()
        events = super().warnings()
        longest = self._longest_bytes
        if longest is None or self._block_bytes <= longest:
            return events
        return (
            *events,
            f"datagrams of {self._block_bytes:,} bytes travel in fragments: one packet of this path carries "
            f"{longest:,} bytes (-l {longest})",
        )

    def _note_longest(self) -> None:
        """Ask the kernel for the longest datagram that it does not fragment, while the socket is open: of the
        way there, so only at the sender."""
        if self._sender is not None and self._final is None and not self._settings.dont_fragment:
            self._longest_bytes = self._socket.sizes.longest()

    # ------------------------------------------------------------------ counters

    def counters(self) -> dict[str, Value]:
        return self._counted() if self._final is None else dict(self._final)

    def evidence(self) -> PathEvidence | None:
        headers_bytes = headers_to(self.remote_address)
        if self._sender is not None:
            return self._sender.evidence(headers_bytes)
        drops = dropped_datagrams(self._sock) if self._final is None else None
        return self._reception.record.evidence(headers_bytes, drops)

    def _counted(self) -> dict[str, Value]:
        if self._sender is not None:
            return {
                "bytes": self._sender.payload_bytes,
                "datagrams_sent": self._sender.datagrams,
                "rtt_us": self._sender.rtt_us(),
                "filtered_datagrams": self._sender.filtered,
            }
        tally = self._reception.tally
        return {
            "bytes": tally.bytes,
            "jitter_us": tally.jitter_us,
            "lost_datagrams": tally.lost,
            "datagrams_numbered": tally.highest,
            "late_datagrams": tally.late,
            "duplicate_datagrams": tally.duplicates,
            "datagrams_received": tally.datagrams,
        }

    # ------------------------------------------------------------------ sending

    async def send(self, load: Load) -> None:
        assert self._sender is not None, "this end receives"
        if not self._worker.is_stopping:
            self._sender.begin(load)
            await self._worker.run(WRITE, self._sender.send_share, alone=load.may_block)

    def _read_replies(self) -> None:
        """Read the receiver's datagrams: echoes, and calls that a client repeats until the data comes."""
        assert self._sender is not None, "only an end that sends listens for replies"
        for _ in range(READS_PER_WAKE):
            try:
                size, ancillary, _, _ = self._receive_into([self._reply], ANCILLARY_BYTES, NOT_WAITING)
            except BlockingIOError:
                return
            except OSError as error:  # about an earlier datagram
                self._socket.events.note(error.errno or errno.EIO)
                continue
            datagram = bytes(self._reply[:size])
            self._heard_us = now_us()
            self._sender.take_reply(datagram, arrived_us(ancillary))
            self._answer_control(datagram)

    # ------------------------------------------------------------------ receiving

    async def receive(self) -> None:
        await self._worker.finished()

    def _receive_share(self) -> int:
        """Read what waits, `MOST_TAKES` batches at most. Returns the time of the next visit."""
        assert self._reader is not None, "this end sends"
        takes, self._takes = self._takes, 1
        for _ in range(takes):
            if short := self._reader.take():
                self._answer_short(short.data, short.age_us)
            elif self.first_data_us is None and self._reception.tally.datagrams:
                self.first_data_us = now_us()
            if self._reader.is_empty:
                return 0
        self._takes = min(2 * takes, MOST_TAKES)
        return 0

    def _answer_short(self, datagram: bytes, age_us: float) -> None:
        """Answer a call that is repeated because its answer was lost, or a probe; ignore anything else."""
        self._answer_control(datagram)
        if answer := echo.answer(datagram, self._conv, age_us):
            with contextlib.suppress(OSError):
                self._sock.send(answer, NOT_WAITING)

    # ------------------------------------------------------------------ ending

    async def close(self) -> None:
        if self._final is not None:
            return
        self._note_longest()
        self._final = self.counters()
        self._watch.close()
        self._worker.stop()
        try:
            await self._worker.ended()
            # The thread may have moved a last batch before it saw that it should stop.
            self._final = self._counted()
        finally:
            self._path.close()
