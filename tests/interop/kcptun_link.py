"""kcptun's framing around KCP, and a blocking loop that runs our engine on a UDP socket beneath it.

With `--crypt none` kcptun still prefixes the KCP bytes of every datagram with 20 bytes, a nonce of 16 and the
CRC-32 of the rest, but encrypts nothing. The KCP stream carries smux, version 1: frames of
u8 version, u8 command, u16 length, u32 stream, little endian, then the payload.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from iperfpy.protocols.kcp.engine import Engine
from tests.protocols.kcp.ends import batches

SYN, FIN, PSH, NOP = range(4)
_FRAME = struct.Struct("<BBHI")
_NONCE_BYTES, _COVER_BYTES = 16, 20
LARGEST_FRAME = 32_768


def covered(datagram: bytes) -> bytes:
    """Wrap a KCP datagram as kcptun expects it."""
    return bytes(_NONCE_BYTES) + zlib.crc32(datagram).to_bytes(4, "little") + datagram


def uncovered(datagram: bytes) -> bytes:
    """Unwrap the KCP datagram from kcptun's datagram."""
    inner = datagram[_COVER_BYTES:]
    assert zlib.crc32(inner) == int.from_bytes(datagram[_NONCE_BYTES:_COVER_BYTES], "little")
    return inner


def frame(command: int, stream: int, payload: bytes = b"") -> bytes:
    """Build one smux frame."""
    return _FRAME.pack(1, command, len(payload), stream) + payload


class Frames:
    """Parser of smux frames."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._rest = b""

    def feed(self, payload: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        data = self._rest + np.ascontiguousarray(payload).tobytes()
        at = 0
        while len(data) - at >= _FRAME.size:
            version, command, length, stream = _FRAME.unpack_from(data, at)
            assert version == 1
            # A frame may be split over deliveries: keep its beginning for the next one.
            if len(data) - at - _FRAME.size < length:
                break
            body = data[at + _FRAME.size : at + _FRAME.size + length]
            if command == SYN:
                self.opened.append(stream)
            elif command == PSH:
                self.bytes += length
                self._hash.update(body)
            at += _FRAME.size + length
        self._rest = data[at:]

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Loop:
    """Our engine on a socket. The engine may be made later, when the first datagram has shown its conv."""

    def __init__(
        self, sock: socket.socket, one: Engine | None, make: Callable[[int], Engine] | None = None
    ) -> None:
        self._sock, self.engine, self._make = sock, one, make
        self._sock.setblocking(False)
        self._peer: tuple[str, int] | None = None
        self._queue = bytearray()
        self.received_bytes = 0

    def connect(self, port: int) -> None:
        self._peer = ("127.0.0.1", port)

    def write(self, data: bytes) -> None:
        """Queue bytes for the engine, without limit."""
        self._queue += data

    @property
    def acknowledged(self) -> bool:
        """True if all written data has been acknowledged."""
        one = self.engine
        return not self._queue and one is not None and one.sending.una == one.sending.end

    def run(self, until: Callable[[], bool], seconds: float = 10.0) -> None:
        """Run until `until()` is true; fail after `seconds`."""
        ends = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < ends, "the peer does not answer as it should"
            self._receive()
            if self.engine is not None:
                self._pump(self.engine)
            select.select([self._sock], [], [], self._wait_s())

    def _wait_s(self) -> float:
        deadline_us = self.engine.deadline_us() if self.engine else None
        if deadline_us is None:
            return 0.05
        return min(0.05, max(0.0, (deadline_us - _now_us()) / 1e6))

    def _receive(self) -> None:
        datagrams: list[bytes] = []
        while len(datagrams) < 256:
            try:
                datagram, self._peer = self._sock.recvfrom(65_536)
            except BlockingIOError:
                break
            datagrams.append(uncovered(datagram))
        if datagrams and self.engine is None and self._make is not None:
            self.engine = self._make(int.from_bytes(datagrams[0][:4], "little"))
        if self.engine is not None:
            for merged in batches(datagrams):
                self.engine.receive(merged, _now_us())

    def _pump(self, one: Engine) -> None:
        while True:
            taken = one.write(memoryview(bytes(self._queue[: one.writable()])), _now_us())
            del self._queue[:taken]
            sent = one.transmit(_now_us())
            for batch in sent:
                for datagram in batch:
                    self._send(covered(datagram.tobytes()))
            if not (taken and sent):
                return

    def _send(self, datagram: bytes) -> None:
        if self._peer is not None:
            with contextlib.suppress(BlockingIOError):  # A full buffer drops datagrams, as a network does.
                self._sock.sendto(datagram, self._peer)


def _now_us() -> int:
    return time.monotonic_ns() // 1000
