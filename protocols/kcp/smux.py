"""smux, the framing of kcptun inside a KCP stream: one stream of it, without clock or socket.

    offset 0   u8                   version: 1, or 2
           1   u8                   command: SYN 0, FIN 1, PSH 2, NOP 3, UPD 4 (version 2)
           2   u16 little-endian    length of the payload
           4   u32 little-endian    stream; 0 of NOP
           8                        payload of PSH; of UPD, u32 bytes consumed and u32 window

The end that dials opens streams with SYN. A stream carries its payload in PSH, and FIN says that its sender
closes it. NOP keeps a session alive in which nothing else is sent. Version 1 has no window of its own. In
version 2 the receiver says with UPD how much of a stream has been consumed, and how much beyond that it
accepts: 256 KiB at first.

    payload -> wrap -> bytes for the KCP stream      FrameReader.feed <- bytes of the KCP stream
    `pending`: frames without payload, which `wrap` puts before the next payload

kcptun compresses all frames unless it has --nocomp (snappy_stream.py). Then each frame is a chunk.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.kcp.snappy_stream import IDENTIFIER, MOST_DATA, Compression

VERSIONS = (1, 2)


class Command(IntEnum):
    """The kinds of frames."""

    SYN = 0
    FIN = 1
    PSH = 2
    NOP = 3
    UPD = 4


_HEADER = struct.Struct("<BBHI")
HEADER_BYTES = _HEADER.size
_UPDATE = struct.Struct("<II")
MOST_PAYLOAD = 65_535
LONGEST_PSH = 32_768
"""Payload of the longest frame that this end sends, as of smux's own."""
FIRST_STREAM = 3
"""The number of the first stream of smux's own client."""
FIRST_WINDOW = 256 << 10
"""Bytes that a stream of version 2 may send before its first UPD."""
WINDOW = 64 << 20
"""The window that this end grants. Payload is counted, or bounded by the program, so that memory sets no
limit; a path of 1 Gb/s and half a second is as much."""
MOST_REFUSED = 64
"""Most streams, beside the one that is measured, that the peer may have open at once."""
MOST_PENDING = 64 << 10
"""Most bytes that wait to be written. A peer that opens and closes streams, and acknowledges nothing, would
otherwise fill the memory with the answers."""
_U32, _MOST_WINDOW = 0xFFFF_FFFF, 0x7FFF_FFFF


class Piece(NamedTuple):
    """A frame without payload, the payload of an UPD, or a part of a PSH."""

    command: Command
    stream: int
    payload: memoryview


_NOTHING = memoryview(b"")


def frame(version: int, command: Command, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Build one frame. Raises `ValueError` for more than 65,535 bytes of payload."""
    if len(payload) > MOST_PAYLOAD:
        raise ValueError(f"a frame carries at most {MOST_PAYLOAD} bytes, not {len(payload)}")
    return b"".join((_HEADER.pack(version, command, len(payload), stream), payload))


def update(stream: int, consumed_bytes: int, window_bytes: int) -> bytes:
    """Build the UPD of a stream; `consumed_bytes` counts modulo 2^32."""
    return frame(2, Command.UPD, stream, _UPDATE.pack(consumed_bytes & _U32, window_bytes))


class FrameReader:
    """Cuts the bytes that arrive into frames. It keeps at most one header, and 8 bytes of an UPD.

    Attributes
    ----------
    frames : that have begun
    """

    __slots__ = ("_command", "_head", "_left", "_stream", "_update", "_version", "frames")

    def __init__(self, version: int) -> None:
        self._version, self.frames = version, 0
        self._head, self._update = bytearray(), bytearray()
        self._command, self._stream = Command.NOP, 0
        self._left = 0  # payload bytes of the present frame that have not come

    def feed(self, data: memoryview) -> Iterator[Piece]:
        """The frames of `data`, and of what was left before. The payload is a view of `data`.

        Raises
        ------
        StreamPeerError
            When the bytes are not smux of this version.
        """
        at = 0
        while at < len(data):
            if not self._left:
                missing = HEADER_BYTES - len(self._head)
                self._head += data[at : at + missing]
                at += missing
                if len(self._head) < HEADER_BYTES:
                    return
                self._begin()
                if not self._left:
                    yield Piece(self._command, self._stream, _NOTHING)
                continue
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if self._command is Command.PSH:
                yield Piece(Command.PSH, self._stream, part)
            else:
                self._update += part
                if not self._left:
                    yield Piece(Command.UPD, self._stream, memoryview(bytes(self._update)))
                    self._update.clear()

    def _begin(self) -> None:
        """Take the header that is complete now."""
        self.frames += 1
        head = bytes(self._head)
        self._head.clear()
        version, command, length, self._stream = _HEADER.unpack(head)
        if version != self._version:
            raise StreamPeerError(_foreign(head))
        if command > (Command.UPD if version > 1 else Command.NOP):
            raise StreamPeerError(f"the peer sent the unknown command {command} of smux version {version}")
        self._command = Command(command)
        if self._command is not Command.PSH:
            expected = _UPDATE.size if self._command is Command.UPD else 0
            if length != expected:
                name = self._command.name
                raise StreamPeerError(f"the peer sent a smux {name} of {length} bytes, not {expected}")
        self._left = length


def _foreign(head: bytes) -> str:
    """The sentence about bytes that do not begin a frame of the expected version."""
    if head == IDENTIFIER[:HEADER_BYTES]:
        return "the peer compresses its stream: give --compress, or kcptun --nocomp"
    if head[0] in VERSIONS and head[1] <= Command.UPD:
        return f"the peer speaks smux version {head[0]}: give --smux {head[0]}, as kcptun's --smuxver"
    return f"the peer sends something that is not smux ({head.hex()}): is it kcptun?"


class SmuxStream:
    """One smux stream in a KCP stream of its own.

    Parameters
    ----------
    dials : True if this end opens the stream
    begins : True if this end sends payload before any has come
    compressed : True if both directions are compressed, as kcptun does it

    Attributes
    ----------
    number : of the stream, None until it is open
    deliver : takes its payload, in order
    pending : bytes that wait to be written
    received_bytes, sent_bytes : payload, before compression
    peer_finished, finished : True once the peer, or this end, has closed the stream
    refused : further streams of the peer, which were closed at once
    compression : of both directions, None if there is none
    is_told : True once the peer has said how much it takes, which version 1 never does
    """

    def __init__(self, version: int, *, dials: bool, begins: bool = False, compressed: bool = False) -> None:
        self.number: int | None = None
        self.deliver: Callable[[memoryview], None] = lambda payload: None
        self.pending = bytearray()
        self.received_bytes = self.sent_bytes = self.refused = 0
        self.peer_finished = self.finished = self.is_told = False
        self.version, self.dials, self._begins = version, dials, begins
        self.compression = Compression() if compressed else None
        self._reader = FrameReader(version)
        self._open_refused: set[int] = set()
        self._written = 0  # bytes of all frames so far
        self._told_bytes = 0  # consumed, by the last UPD
        self._limit_bytes = FIRST_WINDOW  # payload that may be sent, of version 2
        self._frames: deque[tuple[int, int]] = deque()  # (end in the KCP stream, payload) of each PSH
        self._acked_bytes = 0  # payload of PSH that were acknowledged whole

    # -- frames that leave

    def open(self) -> None:
        """Open the stream, at the end that dials."""
        self.number = FIRST_STREAM
        self._queue(Command.SYN, self.number)
        self._tell()

    def keep_alive(self) -> None:
        """Show the peer that this end is there."""
        self._queue(Command.NOP, 0)

    def finish(self, rest: bytes = b"") -> None:
        """Close the stream for good. `rest`: of the frame that `wrap` gave last, where it was not written."""
        if self.number is not None and not self.finished:
            self.finished = True
            self.pending[:0] = rest
            self._queue(Command.FIN, self.number)

    @property
    def room_bytes(self) -> int:
        """Most payload of the next frame; 0 while the peer's window is full."""
        if self.version == 1:
            return LONGEST_PSH
        return max(0, min(LONGEST_PSH, self._limit_bytes - self.sent_bytes))

    def wrap(self, payload: memoryview) -> bytes:
        """Everything that waits to be written, then a frame with `payload`, at most `room_bytes`."""
        assert self.number is not None
        framed = self._sealed(frame(self.version, Command.PSH, self.number, payload))
        self._written += len(framed)
        self._frames.append((self._written, len(payload)))
        self.sent_bytes += len(payload)
        if not self.pending:
            return framed
        framed = bytes(self.pending) + framed
        self.pending.clear()
        return framed

    def payload_acked(self, acked_bytes: int) -> int:
        """Payload in the first `acked_bytes` of the KCP stream; they never become fewer. A part of
        a compressed frame has none: the peer cannot read it yet."""
        frames = self._frames
        while frames and frames[0][0] <= acked_bytes:
            self._acked_bytes += frames.popleft()[1]
        if not frames or self.compression is not None:
            return self._acked_bytes
        end, size = frames[0]
        return self._acked_bytes + max(0, acked_bytes - (end - size))

    def _queue(self, command: Command, stream: int) -> None:
        self._queue_bytes(frame(self.version, command, stream))

    def _queue_bytes(self, framed: bytes) -> None:
        framed = self._sealed(framed)
        self.pending += framed
        self._written += len(framed)

    def _sealed(self, framed: bytes) -> bytes:
        """The bytes of the KCP stream for a frame."""
        return framed if self.compression is None else self.compression.seal(framed)

    def _tell(self) -> None:
        """Tell how much was consumed, in version 2."""
        if self.version > 1 and self.number is not None:
            self._told_bytes = self.received_bytes
            self._queue_bytes(update(self.number, self.received_bytes, WINDOW))

    # -- frames that arrive

    def receive(self, data: memoryview) -> None:
        """Take bytes of the KCP stream, in order. Raises `StreamPeerError` if they break the protocol."""
        if self.compression is None:
            self._take_frames(data)
            return
        for plain in self.compression.open(data):
            self._take_frames(plain)
            # Each frame of kcptun is a chunk. A stranger could have thousands in one, and each is work.
            if HEADER_BYTES * self._reader.frames > self.compression.arrived_bytes + MOST_DATA:
                raise StreamPeerError("the peer compresses more frames than it may without compression")

    def _take_frames(self, data: memoryview) -> None:
        for command, stream, payload in self._reader.feed(data):
            if command is Command.NOP:
                continue
            if command is Command.SYN:
                self._take_syn(stream)
            elif stream in self._open_refused:
                if command is Command.FIN:
                    self._open_refused.discard(stream)
            elif stream != self.number:
                raise StreamPeerError(
                    f"the peer sent a smux {command.name} of stream {stream}, which is not open"
                )
            elif command is Command.PSH:
                self._take_payload(payload)
            elif command is Command.FIN:
                self._take_fin()
            else:
                self._take_update(payload)
            if len(self.pending) > MOST_PENDING:
                raise StreamPeerError("the peer opens and closes smux streams, and does not take the answers")

    def _take_syn(self, stream: int) -> None:
        if self.dials or stream in self._open_refused or stream == self.number:
            raise StreamPeerError(f"the peer opened the smux stream {stream}, which it may not")
        if self.number is None:
            self.number = stream
            self._tell()
            return
        # A second TCP connection of kcptun's client: one stream is measured.
        if len(self._open_refused) >= MOST_REFUSED:
            raise StreamPeerError(f"the peer has more than {MOST_REFUSED} smux streams open")
        self._open_refused.add(stream)
        self.refused += 1
        self._queue(Command.FIN, stream)

    def _take_payload(self, payload: memoryview) -> None:
        if self.peer_finished:
            raise StreamPeerError("the peer sent payload on a smux stream that it had closed")
        self.received_bytes += len(payload)
        if len(payload):
            self.deliver(payload)
        if not self.finished and self.received_bytes - self._told_bytes >= WINDOW // 8:
            self._tell()

    def _take_fin(self) -> None:
        if not (self.dials or self._begins or self.received_bytes):
            # A connection that carried nothing, as of a program that asks if the port is open.
            assert self.number is not None
            self._queue(Command.FIN, self.number)
            self.number = None
            return
        self.peer_finished = True

    def _take_update(self, payload: memoryview) -> None:
        self.is_told = True
        consumed_bytes, window_bytes = _UPDATE.unpack(payload)
        in_flight = (self.sent_bytes - consumed_bytes) & _U32
        if in_flight > _MOST_WINDOW:
            raise StreamPeerError("the peer says that it has consumed more of the smux stream than was sent")
        self._limit_bytes = self.sent_bytes - in_flight + min(window_bytes, _MOST_WINDOW)
