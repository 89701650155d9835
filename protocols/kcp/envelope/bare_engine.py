"""An engine with a peer that is a program of another author, without a control connection.

    BareEngine       names settings in which the peer differs, by the datagrams that arrive
    UnprovenEngine   at the end that was dialled: until the peer has proven its address, it gets no more bytes
                     than came from it

A source address can be forged, and KCP has no handshake. But a KCP peer echoes the stamp of each segment of
data that it acknowledges. So the first segments of data leave with random stamps, and an echo of one proves
that its sender receives at that address. An end that sends no data never learns of a proof; all that it sends
are acknowledgements, which are shorter than the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_options import MAX_WINDOW
from iperfpy.protocols.kcp.envelope.enveloped_engine import MOST_REJECTED, EnvelopedEngine
from iperfpy.protocols.kcp.envelope.fec import AdaptiveFec, Fec
from iperfpy.protocols.kcp.envelope.fec_header import DATA, OUT_OF_BAND
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.wire import ACK, HEADER, HEADER_BYTES, MASK, PROBE, PUSH, expand, probe_segment
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.units import counted

MOST_STAMPS = 64
"""Random stamps that are remembered, and segments of a batch that are searched for them."""
STAMP_US = 10_000
"""Shortest time for which a peer that has moved is asked by the same stamp."""
_PROBES, _ACKS = 1, 2
_TYPE_OFFSET = 4
_TS_OFFSET, _UNA_OFFSET = 8, 16
FORGOTTEN_US, FORGOTTEN_BATCHES = 500_000, 8
"""Time for which the peer acknowledges less than before, and batches that say so, after which it has
forgotten the conversation: datagrams that are late say it, too, but not as long."""
UNASKED_FEC = (
    "the peer sends with forward error correction, and this end does not: give the peer's setting, as"
    " --kcp-fec 10:3"
)


def has_fec_type(datagram: bytes) -> bool:
    """True if a decrypted datagram has kcp-go's header of forward error correction."""
    kind = int.from_bytes(datagram[_TYPE_OFFSET : _TYPE_OFFSET + 2], "little")
    return DATA <= kind <= OUT_OF_BAND


def _unfit(fec: Fec) -> str:
    """The sentence about datagrams that contradict the sets of --kcp-fec."""
    unusable, found = counted(fec.counts.unusable, "datagram"), fec.found
    if found is None:
        return (
            f"{unusable} of forward error correction did not fit --kcp-fec: the peer has another setting, and"
            " its losses are not restored"
        )
    if found == fec.geometry:
        # Damaged or forged ones: all of late fit again.
        return f"dropped {unusable} that did not fit the sets of --kcp-fec"
    auto = "auto:" if isinstance(fec, AdaptiveFec) else ""
    sets = f"{found.data}:{found.parity}"
    return f"the peer has sets of {sets}, which were found after {unusable}; give --kcp-fec {auto}{sets}"


@dataclass(slots=True)
class _Lag:
    """Consecutive batches that acknowledge less than those before: times of the first and the last one."""

    first_us: int
    last_us: int
    batches: int = 0

    @property
    def lasts(self) -> bool:
        """True if it is too long for datagrams that are late."""
        return self.last_us - self.first_us >= FORGOTTEN_US


class BareEngine(EnvelopedEngine):
    """Tells settings of the peer that do not fit.

    Attributes
    ----------
    doubt : a question about the peer's settings, for the error about one that has closed its session, or ""
    """

    __slots__ = ("_fec", "_heard", "_lag", "_unasked_fec", "doubt")

    def __init__(self, engine: Engine, layers: Sequence[Layer]) -> None:
        super().__init__(engine, layers)
        self._fec = next((layer for layer in layers if isinstance(layer, Fec)), None)
        self._heard = False
        self._unasked_fec = 0
        self.doubt = ""
        self._lag: _Lag | None = None

    @property
    def understands(self) -> bool:
        """True once a datagram of this conversation has come.

        Raises
        ------
        StreamPeerError
            When several datagrams have come that show another setting of the peer.
        """
        if self._heard or not super().understands:
            return self._heard
        if self._unasked_fec >= MOST_REJECTED:
            raise StreamPeerError(UNASKED_FEC)
        return False

    def warnings(self) -> tuple[str, ...]:
        said, fec = list(super().warnings()), self._fec
        if self._lag is not None and self._lag.lasts:
            # Too few to be certain: the peer may answer a short test only a few times.
            said.append(self._forgetting())
        if fec is None:
            return tuple(said)
        if fec.counts.unusable:
            said.append(_unfit(fec))
        elif self._heard and not fec.counts.data_received:
            said.append("the peer sends without forward error correction: its losses are not restored")
        return tuple(said)

    def _hear(self, batch: DatagramBatch, now_us: int) -> None:
        """Take datagrams in the clear."""
        counts, last = self._engine.counts, batch.data[batch.size - batch.last_size : batch.size]
        foreign, una = counts.foreign, int.from_bytes(last[_UNA_OFFSET : _UNA_OFFSET + 4].tobytes(), "little")
        self._engine.receive(batch, now_us)
        if counts.foreign == foreign:
            self._check_session(una, now_us)
        if self._heard:
            return
        if counts.foreign - foreign < batch.count:
            self._heard = True
        elif self._fec is None:
            self._unasked_fec += sum(has_fec_type(datagram[:6].tobytes()) for datagram in batch)

    def _check_session(self, una: int, now_us: int) -> None:
        """Raise `StreamPeerError` if the peer has forgotten the conversation. A kcp-go that has closed its
        session takes the next segment for the beginning of another one, which acknowledges from its first
        segment on, and never receives that."""
        acknowledged = self._engine.sending.una
        if expand(una, acknowledged) >= acknowledged:
            self._lag = None
            return
        lag = self._lag = self._lag or _Lag(now_us, now_us)
        lag.batches += 1
        lag.last_us = now_us
        if lag.batches >= FORGOTTEN_BATCHES and lag.lasts:
            self._lag = None
            raise StreamPeerError(self._forgetting())

    def _forgetting(self) -> str:
        return (
            "the peer has forgotten what it had acknowledged: it has closed its session, or was restarted"
            + (f"; {self.doubt}" if self.doubt else "")
        )

    def _open(self, batch: DatagramBatch, now_us: int, layers: int) -> None:
        if layers:
            super()._open(batch, now_us, layers)
        else:
            self._hear(batch, now_us)


@dataclass(slots=True)
class _Move:
    """The bytes that had come when the peer moved, and when it was last asked for a proof; the present stamp,
    and when it was drawn."""

    came_before: int
    asked_at: int
    stamp: int = 0
    drawn_us: int | None = None


class UnprovenEngine(BareEngine):
    """The end that a peer has dialled, from an address that may be forged.

    Parameters
    ----------
    random_bytes : makes stamps that cannot be guessed
    sends : True if this end sends data
    follows : True if the peer may move to another address

    Attributes
    ----------
    proven : True once the peer has echoed a stamp, from the address where it is now
    """

    __slots__ = (
        "_follows",
        "_held",
        "_latest_us",
        "_left_bytes",
        "_move",
        "_opening_bytes",
        "_random_bytes",
        "_sends",
        "_stamps",
        "proven",
    )

    def __init__(
        self,
        engine: Engine,
        layers: Sequence[Layer],
        random_bytes: Callable[[int], bytes],
        *,
        sends: bool,
        follows: bool = False,
    ) -> None:
        super().__init__(engine, layers)
        self.proven, self._sends, self._follows = False, sends, follows
        self._move: _Move | None = None  # the last one, until the new address is proven
        self._latest_us: int | None = None  # stamp of the peer's latest data
        self._random_bytes = random_bytes
        self._stamps: dict[int, int] = {}  # random one -> the engine's, the oldest first
        self._held: list[DatagramBatch] = []
        self._left_bytes = self._opening_bytes = 0

    def write_opening(self, now_us: int) -> None:
        """Write one byte, so that the peer has a segment to acknowledge. It is no payload of the test."""
        self._opening_bytes += self._engine.write(memoryview(b"\0"), now_us)

    def figures(self) -> dict[str, Value]:
        found = super().figures()
        if self._opening_bytes:
            found["bytes"] = max(0, self._engine.sending.bytes_acked - self._opening_bytes)
        return found

    def transmit(self, now_us: int, *, writer_waits: bool = False) -> list[DatagramBatch]:
        if self.proven and not self._held:
            return super().transmit(now_us, writer_waits=writer_waits)
        if self._move is not None and self._sends:
            return self._ask(self._move, now_us, writer_waits=writer_waits)
        # All that leaves at once, or nothing: what is held back leaves with the next bytes of the peer.
        leaving = self._held or super().transmit(now_us, writer_waits=writer_waits)
        counts, size = self._engine.counts, sum(batch.size for batch in leaving)
        came = counts.wire_bytes_received - (0 if self._move is None else self._move.came_before)
        if not self.proven and self._left_bytes + size > came:
            if not self._held:
                counts.never_left(leaving)
                self._held = [_copied(batch) for batch in leaving]
            return []
        if self._held:
            counts.leave(leaving)
            self._held = []
        self._left_bytes += size
        return leaving

    # -- a peer that moves

    def is_newer(self, plain: bytes) -> bool:
        """True if the peer made this datagram later than all that came before: its data has a later stamp, or
        it acknowledges more."""
        engine, latest_us = self._engine, self._latest_us
        for _, header in _segments(np.frombuffer(plain, np.uint8)):
            if header[1] == PUSH and header[2] != PROBE and latest_us is not None:
                if expand(header[4], latest_us) > latest_us:
                    return True
            elif engine.sending.una < expand(header[6], engine.sending.una) <= engine.sending.nxt:
                return True
        return False

    def move(self) -> None:
        """The peer goes on from another address, which is not proven yet: a copy of its latest datagram that
        overtook it may have come from anywhere."""
        came = self._engine.counts.wire_bytes_received
        self.proven, self._move, self._left_bytes = False, _Move(came, came), 0
        self._held.clear()
        self._stamps.clear()

    def _ask(self, move: _Move, now_us: int, *, writer_waits: bool) -> list[DatagramBatch]:
        """For each arrival from the new address, one segment that the peer acknowledges, and ignores
        otherwise. All else is lost, like the data that left for the old address."""
        engine, counts = self._engine, self._engine.counts
        counts.never_left(engine.transmit(now_us, writer_waits=writer_waits))
        came = counts.wire_bytes_received
        if came == move.asked_at:
            return []
        move.asked_at = came
        # The echo of a stamp takes a round trip: the remembered ones have to reach that far back.
        lasts_us = max(STAMP_US, int(engine.rtt.srtt_us) // 16)
        if move.drawn_us is None or now_us - move.drawn_us >= lasts_us:
            move.stamp, move.drawn_us = self._new_stamp(now_us), now_us
        wnd, una = min(engine.receiving.limit, MAX_WINDOW), engine.receiving.nxt
        segment = probe_segment(engine.conv, wnd, una, move.stamp, engine.sending.una - 1, HEADER_BYTES)
        batches = [DatagramBatch.of(segment, HEADER_BYTES)]
        for layer in self._layers:
            batches = layer.seal(batches, now_us)
        size = sum(batch.size for batch in batches)
        if self._left_bytes + size > came - move.came_before:
            return []
        self._left_bytes += size
        counts.leave(batches)
        return batches

    def _new_stamp(self, stands_for_us: int) -> int:
        """A random stamp that stands for one of the engine."""
        stamp = int.from_bytes(self._random_bytes(4), "little")
        self._stamps[stamp] = stands_for_us & MASK
        if len(self._stamps) > MOST_STAMPS:
            del self._stamps[next(iter(self._stamps))]
        return stamp

    def _note_time(self, batch: DatagramBatch) -> None:
        """Follow the stamps of the peer's data: of a batch, that of its last datagram."""
        for _, header in _segments(batch.data[batch.size - batch.last_size : batch.size]):
            if header[1] == PUSH and header[2] != PROBE:
                latest_us = self._latest_us
                stamp_us = header[4] if latest_us is None else expand(header[4], latest_us)
                self._latest_us = stamp_us if latest_us is None else max(latest_us, stamp_us)

    # -- until the address is proven

    def _leaving(self, now_us: int, *, writer_waits: bool) -> list[DatagramBatch]:
        plain = super()._leaving(now_us, writer_waits=writer_waits)
        if self.proven or not self._sends:
            return plain
        # Probes of the path are long. An acknowledgement without data would end the peer's repetitions, and
        # with them the bytes that this end may send; data has the cumulative acknowledgement in its header.
        # Before the peer's first data, acknowledgements answer its probes, and its data waits for them.
        unwanted = {_PROBES, _ACKS} if self._engine.receiving.has_data else {_PROBES}
        dropped = [batch for batch in plain if not _kinds(batch).isdisjoint(unwanted)]
        self._engine.counts.never_left(dropped)
        kept = [batch for batch in plain if _kinds(batch).isdisjoint(unwanted)]
        drawn: dict[int, int] = {}  # the engine's stamp -> a random one
        return [self._with_random_stamps(_copied(batch), drawn) for batch in kept]

    def _with_random_stamps(self, batch: DatagramBatch, drawn: dict[int, int]) -> DatagramBatch:
        """The batch with random stamps, one per flight: the echo of any segment of it is found."""
        for datagram in batch:
            for at, header in _segments(datagram):
                if header[1] == PUSH:
                    stamp = drawn.get(header[4])
                    if stamp is None:
                        stamp = drawn[header[4]] = self._new_stamp(header[4])
                    _set_stamp(datagram, at, stamp)
        return batch

    def _hear(self, batch: DatagramBatch, now_us: int) -> None:
        if self._stamps and not self.proven:
            batch = self._with_own_stamps(_copied(batch))
        if self._follows:
            self._note_time(batch)
        super()._hear(batch, now_us)

    def _with_own_stamps(self, batch: DatagramBatch) -> DatagramBatch:
        """The batch with the engine's stamps in place of the random ones. One of them is the proof."""
        left = MOST_STAMPS
        for datagram in batch:
            for at, header in _segments(datagram):
                left -= 1
                if header[1] == ACK and (stamp := self._stamps.get(header[4])) is not None:
                    _set_stamp(datagram, at, stamp)
                    self.proven, self._move = True, None
                # A flood of segments from a forged address must not cost more than it costs its sender.
                if left <= 0:
                    return batch
        return batch


def _copied(batch: DatagramBatch) -> DatagramBatch:
    return DatagramBatch(batch.data[: batch.size].copy(), batch.stride, batch.count, batch.last_size)


def _segments(datagram: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> list[tuple[int, tuple[int, ...]]]:
    """(offset, header) of the segments of a datagram, as far as they are whole."""
    found, at, data = [], 0, datagram.data
    while at + HEADER_BYTES <= len(datagram):
        header = HEADER.unpack_from(data, at)
        found.append((at, header))
        at += HEADER_BYTES + header[7]
    return found


def _kinds(batch: DatagramBatch) -> set[int]:
    """For each datagram: `_PROBES` if it is a probe of the path, `_ACKS` if it has acknowledgements and no
    data, else 0."""
    kinds = set()
    for datagram in batch:
        headers = [header for _, header in _segments(datagram)]
        commands = {header[1] for header in headers}
        if any(header[1] == PUSH and header[2] == PROBE for header in headers):
            kinds.add(_PROBES)
        else:
            kinds.add(_ACKS if ACK in commands and PUSH not in commands else 0)
    return kinds


def _set_stamp(datagram: np.ndarray[tuple[int], np.dtype[np.uint8]], at: int, stamp: int) -> None:
    field = datagram[at + _TS_OFFSET : at + _TS_OFFSET + 4]
    field[:] = np.frombuffer(stamp.to_bytes(4, "little"), np.uint8)
