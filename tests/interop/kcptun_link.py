"""kcptun's framing above KCP, and a blocking loop that runs our engine, in an envelope, on a UDP socket.

The KCP stream carries smux, version 1: frames of u8 version, u8 command, u16 length, u32 stream, little
endian, then the payload.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.envelope.layer import Layer
from tests.protocols.kcp.ends import batches

SYN, FIN, PSH, NOP = range(4)
_FRAME = struct.Struct("<BBHI")
LARGEST_FRAME = 32_768


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
    """Our engine on a socket. The engine may be made later, when the first datagram has shown its conv.

    Parameters
    ----------
    layers : of the envelope, the innermost first
    loss : share of the datagrams of both directions that get lost here
    """

    def __init__(
        self,
        sock: socket.socket,
        one: Engine | None,
        layers: Sequence[Layer],
        make: Callable[[int], Engine] | None = None,
        loss: float = 0.0,
    ) -> None:
        self._sock, self.engine, self._make = sock, one, make
        self._layers = layers
        self._wrapped = EnvelopedEngine(one, layers) if one is not None else None
        self._sock.setblocking(False)
        self._peer: tuple[str, int] | None = None
        self._queue = bytearray()
        self._loss, self._random = loss, random.Random(1)
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
            if self._random.random() >= self._loss:
                datagrams.append(datagram)
        for merged in batches(datagrams):
            if self._wrapped is None:
                self._begin(merged)
            else:
                self._wrapped.receive(merged, _now_us())

    def _begin(self, merged: DatagramBatch) -> None:
        """Make the engine for the conv of the first datagram."""
        plain = [merged]
        for layer in reversed(self._layers):
            plain = [copied(inner) for outer in plain for inner in layer.open(outer, _now_us()).arrived]
        if plain and self._make is not None:
            self.engine = self._make(int.from_bytes(plain[0].data[:4].tobytes(), "little"))
            self._wrapped = EnvelopedEngine(self.engine, self._layers)
            for each in plain:
                self.engine.receive(each, _now_us())

    def _pump(self, one: Engine) -> None:
        assert self._wrapped is not None
        while True:
            taken = one.write(memoryview(bytes(self._queue[: one.writable()])), _now_us())
            del self._queue[:taken]
            sent = self._wrapped.transmit(_now_us())
            for batch in sent:
                for datagram in batch:
                    self._send(datagram.tobytes())
            if not (taken and sent):
                return

    def _send(self, datagram: bytes) -> None:
        if self._peer is not None and self._random.random() >= self._loss:
            with contextlib.suppress(BlockingIOError):  # A full buffer drops datagrams, as a network does.
                self._sock.sendto(datagram, self._peer)


def copied(batch: DatagramBatch) -> DatagramBatch:
    """The batch in memory of its own."""
    return DatagramBatch(batch.data[: batch.size].copy(), batch.stride, batch.count, batch.last_size)


def _now_us() -> int:
    return time.monotonic_ns() // 1000
