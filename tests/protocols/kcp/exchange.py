"""Two engines and a bad path between them, in virtual time; the invariants are checked at every step.

The path loses, delays, repeats and corrupts datagrams, merges runs into one batch as receive offload does,
and joins two in one datagram as stock peers do. Corruption is of the kind that a receiver can see: KCP has no
checksum, and a changed serial number is only another serial number.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.engine import Engine
from tests.protocols.kcp.ends import batches, check

CHUNK = 1 << 14


@dataclass(frozen=True)
class Way:
    """One direction. Shares are probabilities per datagram."""

    delay_us: int = 20_000
    jitter_us: int = 0
    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    join: float = 0.0
    """Two neighbours travel as one datagram."""
    outages: tuple[tuple[int, int], ...] = ()
    """(from, to) in microseconds since the start: everything is lost."""


@dataclass
class Stream:
    """The data of one direction: it is written in chunks, and checked byte by byte when it is delivered."""

    total: int
    seed: int
    chunk: int = CHUNK
    gap_us: int = 0
    """Pause between writes; 0: as fast as the engine takes it."""
    delivered: int = 0
    written: int = 0
    next_us: int = 0
    _data: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        self._data = random.Random(self.seed).randbytes(self.total)
        self._digest = hashlib.sha256()

    def deliver(self, payload: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        block = np.ascontiguousarray(payload).tobytes()
        assert block == self._data[self.delivered : self.delivered + len(block)]
        self.delivered += len(block)
        self._digest.update(block)

    def feed(self, one: Engine, now_us: int) -> bool:
        """Write as much as the engine takes; returns True if that was anything."""
        before = self.written
        while self.written < self.total and now_us >= self.next_us:
            block = self._data[self.written : min(self.total, self.written + self.chunk)]
            writable = one.writable()
            taken = one.write(memoryview(block), now_us)
            assert taken == min(writable, len(block))
            self.written += taken
            if self.gap_us and taken:
                self.next_us = now_us + self.gap_us
            if taken < len(block):
                break
        return self.written > before

    def due_us(self, now_us: int) -> int | None:
        """The time of the next write; one that is overdue waits for the engine, not for the clock."""
        return self.next_us if self.written < self.total and self.next_us > now_us else None

    @property
    def intact(self) -> bool:
        return self._digest.digest() == hashlib.sha256(self._data).digest()


class _Way:
    """The state of one direction: its random source and the datagrams under way."""

    def __init__(self, way: Way, rng: random.Random, start_us: int) -> None:
        self.way, self.rng, self.start_us = way, rng, start_us
        self.flying: list[tuple[int, int, bytes]] = []
        self._count = 0

    def send(self, sent: Sequence[DatagramBatch], now_us: int) -> None:
        datagrams = [datagram.tobytes() for one in sent for datagram in one]
        way, rng = self.way, self.rng
        while datagrams:
            datagram = datagrams.pop(0)
            if datagrams and rng.random() < way.join:
                datagram += datagrams.pop(0)
            since_us = now_us - self.start_us
            if any(start <= since_us < stop for start, stop in way.outages) or rng.random() < way.loss:
                continue
            self._fly(datagram, now_us)
            if rng.random() < way.duplicate:
                self._fly(datagram, now_us)

    def _fly(self, datagram: bytes, now_us: int) -> None:
        if self.rng.random() < self.way.corrupt:
            datagram = _corrupted(datagram, self.rng)
        late_us = self.rng.randrange(self.way.jitter_us) if self.way.jitter_us else 0
        self._count += 1
        heapq.heappush(self.flying, (now_us + self.way.delay_us + late_us, self._count, datagram))

    def arrive(self, now_us: int) -> list[DatagramBatch]:
        here = []
        while self.flying and self.flying[0][0] <= now_us:
            here.append(heapq.heappop(self.flying)[2])
        return batches(here)

    def due_us(self) -> int | None:
        return self.flying[0][0] if self.flying else None


def _corrupted(datagram: bytes, rng: random.Random) -> bytes:
    changed = bytearray(datagram)
    kind = rng.randrange(4)
    if kind == 0:
        changed[rng.randrange(4)] ^= 1 << rng.randrange(8)  # conv
    elif kind == 1:
        changed[4] ^= 0x80  # cmd
    elif kind == 2:
        changed[22 + rng.randrange(2)] ^= 0x40  # len
    else:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


class Exchange:
    """Runs `left` and `right` until all streams are delivered and acknowledged.

    there, back : the path from left to right, and from right to left
    data : the stream that left writes, and the one that right writes
    """

    def __init__(
        self,
        left: Engine,
        right: Engine,
        there: Way,
        back: Way,
        data: tuple[Stream, Stream],
        *,
        seed: int,
        start_us: int = 0,
        first_sn: int = 0,
    ) -> None:
        rng = random.Random(seed)
        self.ends = (left, right)
        self.data = data
        self.ways = (
            _Way(there, random.Random(rng.random()), start_us),
            _Way(back, random.Random(rng.random()), start_us),
        )
        self.now_us = self.start_us = start_us
        self._first_sn = first_sn
        self.steps = 0
        self.each_step: Callable[[], None] | None = None

    @property
    def over(self) -> bool:
        return all(
            stream.delivered == stream.total and one.sending.una == one.sending.end
            for stream, one in zip(self.data, self.ends, strict=True)
        )

    def run(self, limit_us: int = 600_000_000) -> None:
        """Run to the end; more than `limit_us` of virtual time is a deadlock."""
        while not self.over:
            self._step()
            assert self.now_us - self.start_us < limit_us, "the transfer does not end"

    def drain(self) -> None:
        """Let all datagrams under way arrive, and their answers."""
        while self.ways[0].flying or self.ways[1].flying:
            self._step()

    def _step(self) -> None:
        self.steps += 1
        # Both ends receive before either sends, as hosts do when their packets cross.
        for one, way in zip(self.ends, reversed(self.ways), strict=True):
            for arrived in way.arrive(self.now_us):
                one.receive(arrived, self.now_us)
        for one, way, stream in zip(self.ends, self.ways, self.data, strict=True):
            while True:
                fed = stream.feed(one, self.now_us)
                sent = one.transmit(self.now_us)
                way.send(sent, self.now_us)
                if not (fed and sent):
                    break
            check(one, self.now_us, self._first_sn)
        if self.each_step is not None:
            self.each_step()
        wishes = [one.deadline_us() for one in self.ends]
        wishes += [way.due_us() for way in self.ways] + [stream.due_us(self.now_us) for stream in self.data]
        times = [at for at in wishes if at is not None]
        assert times or self.over, "neither end has a deadline"
        self.now_us = max(self.now_us + 1, min(times, default=0))
