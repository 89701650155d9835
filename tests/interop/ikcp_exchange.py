"""Our engine and the C library of KCP (PyPI `kcp`) exchange data in virtual time, over a lossy path.

    python -m tests.interop.ikcp_exchange [--megabytes 50] [--loss 0.05]

sends the data in each role with each loss recovery, compares SHA-256, and shows the first segments of each
direction as they were on the wire.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import random
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kcp.extension import KCP

from iperfpy.protocols.kcp.engine import Engine
from tests.protocols.kcp.ends import Fixed, RecoveryFactory, batches, engine, stock_recovery

CONV = 0x1122_3344
TICK_MS = 10
WINDOW = 512
MESSAGE_BYTES = 16_000
"""Size of one write to the C library. The library fragments it into 12 segments, counted down in `frg`."""
NOTHING = hashlib.sha256().hexdigest()
_NAMES = {81: "PUSH", 82: "ACK", 83: "WASK", 84: "WINS"}
_LAYOUT = struct.Struct("<IBBHIIII")
RECOVERIES = ("stock", "rack")


def _recovery(name: str) -> tuple[RecoveryFactory | None, Fixed | None]:
    if name == "stock":
        return stock_recovery(interval_us=TICK_MS * 1000), None
    return None, Fixed(WINDOW, rate=20_000.0, burst=16)


class Source:
    """Source of `total` bytes, equal for equal seeds, hashed block by block as they are taken."""

    def __init__(self, total: int, seed: int) -> None:
        self.left = total
        self._rng = random.Random(seed)
        self._block = b""
        self._hash = hashlib.sha256()

    def peek(self, most: int) -> bytes:
        """Return at most `most` next bytes; repeated calls return the same bytes until `take`."""
        while len(self._block) < most and self.left:
            block = self._rng.randbytes(min(self.left, 1 << 16))
            self.left -= len(block)
            self._block += block
        return self._block[:most]

    def take(self, count: int) -> None:
        self._hash.update(self._block[:count])
        self._block = self._block[count:]

    @property
    def empty(self) -> bool:
        return not self.left and not self._block

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Digest:
    """Sink that hashes the received data."""

    def __init__(self) -> None:
        self.bytes = 0
        self._hash = hashlib.sha256()

    def __call__(self, payload: np.ndarray[Any, np.dtype[np.uint8]] | bytearray) -> None:
        data = bytes(payload) if isinstance(payload, bytearray) else np.ascontiguousarray(payload).tobytes()
        self._hash.update(data)
        self.bytes += len(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class CLibrary:
    """End run by the C library: stock KCP with nodelay, a 10 ms interval, resend 2, no congestion control."""

    def __init__(self, source: Source, sink: Digest, message_bytes: int = MESSAGE_BYTES) -> None:
        self._source, self._sink, self._message_bytes = source, sink, message_bytes
        self._out: list[bytes] = []
        self._kcp = KCP(
            CONV,
            max_transmission=1_400,
            no_delay=True,
            update_interval=TICK_MS,
            resend_count=2,
            no_congestion_control=True,
            send_window_size=WINDOW,
            receive_window_size=WINDOW,
        )
        self._kcp.include_outbound_handler(lambda _, datagram: self._out.append(datagram))

    def receive(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self._kcp.receive(datagram)
        for message in self._kcp.get_all_received():
            self._sink(message)

    def transmit(self, now_us: int) -> list[bytes]:
        while self._kcp.get_outbound_packets() < 2 * WINDOW and not self._source.empty:
            message = self._source.peek(self._message_bytes)
            self._kcp.enqueue(message)
            self._source.take(len(message))
        self._kcp.update(now_us // 1000 & 0xFFFF_FFFF)
        out, self._out = self._out, []
        return out

    @property
    def idle(self) -> bool:
        return self._source.empty and self._kcp.get_outbound_packets() == 0

    def due_us(self, now_us: int) -> int:
        return (now_us // 1000 // TICK_MS + 1) * TICK_MS * 1000


class Ours:
    """End run by our engine."""

    def __init__(self, one: Engine, source: Source) -> None:
        self.engine, self._source = one, source

    def receive(self, datagrams: list[bytes], now_us: int) -> None:
        for merged in batches(datagrams):
            self.engine.receive(merged, now_us)

    def transmit(self, now_us: int) -> list[bytes]:
        sent: list[bytes] = []
        while True:
            writable = self.engine.writable()
            block = self._source.peek(min(writable, 1 << 17)) if writable else b""
            self._source.take(self.engine.write(memoryview(block), now_us))
            batches_out = self.engine.transmit(now_us)
            sent += [datagram.tobytes() for one in batches_out for datagram in one]
            if not (block and batches_out):
                return sent

    @property
    def idle(self) -> bool:
        return self._source.empty and self.engine.sending.una == self.engine.sending.end


@dataclass
class Trace:
    """First segments of a direction."""

    most: int
    lines: list[tuple[int, str]] = field(default_factory=list)

    def note(self, now_us: int, who: str, datagram: bytes) -> None:
        while datagram and len(self.lines) < self.most:
            conv, cmd, frg, wnd, ts, sn, una, length = _LAYOUT.unpack_from(datagram)
            head = (
                f"{_NAMES[cmd]:<4} conv={conv:#x} frg={frg} wnd={wnd} ts={ts} sn={sn} una={una} len={length}"
            )
            line = f"{now_us / 1000:9.3f} ms  {who:>4}  {datagram[:24].hex(' ', -4)}  {head}"
            self.lines.append((now_us, line))
            datagram = datagram[24 + length :]


@dataclass(frozen=True)
class Result:
    """Result of an exchange. Digests: of the data to the C library, and of the data from it."""

    sent: tuple[str, str]
    received: tuple[str, str]
    bytes: int
    duration_us: int
    datagrams: int
    lost: int
    ours: Engine
    traces: tuple[Trace, Trace]

    @property
    def intact(self) -> bool:
        return self.sent == self.received


class Exchange:
    """Exchange `down` bytes from the C library to us and `up` bytes from us to it, with `loss` (a share of 1)
    of the datagrams and `delay_us` in each direction."""

    def __init__(
        self,
        recovery: str,
        *,
        up: int = 0,
        down: int = 0,
        loss: float = 0.05,
        delay_us: int = 10_000,
        seed: int = 1,
        start_us: int = 0,
        trace: int = 0,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        factory, control = _recovery(recovery)
        self._sources = Source(up, seed), Source(down, seed + 1)
        self._sinks = Digest(), Digest()  # at the C library, at our end
        one = engine(
            factory,
            control,
            self._sinks[1],
            send_window=WINDOW,
            receive_window=WINDOW,
        )
        self.ours = Ours(one, self._sources[0])
        self.c_library = CLibrary(self._sources[1], self._sinks[0], message_bytes)
        self._rng, self._loss, self._delay_us = random.Random(seed), loss, delay_us
        self._flying: list[tuple[int, int, str, bytes]] = []
        self._now_us = self._start_us = start_us
        self._datagrams = self._lost = 0
        self.traces = Trace(trace), Trace(trace)

    def _send(self, to: str, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self._datagrams += 1
            self.traces[to == "us"].note(
                self._now_us - self._start_us, "C" if to == "us" else "ours", datagram
            )
            if self._rng.random() < self._loss:
                self._lost += 1
            else:
                arrival = (self._now_us + self._delay_us, self._datagrams, to, datagram)
                heapq.heappush(self._flying, arrival)

    def _arrived(self) -> tuple[list[bytes], list[bytes]]:
        """Deliver the datagrams that are due at either end."""
        here: tuple[list[bytes], list[bytes]] = [], []
        while self._flying and self._flying[0][0] <= self._now_us:
            _, _, to, datagram = heapq.heappop(self._flying)
            here[to == "them"].append(datagram)
        return here

    def _step(self) -> None:
        for_us, to_library = self._arrived()
        self.ours.receive(for_us, self._now_us)
        self.c_library.receive(to_library)
        self._send("them", self.ours.transmit(self._now_us))
        self._send("us", self.c_library.transmit(self._now_us))
        times = [self.c_library.due_us(self._now_us), self.ours.engine.deadline_us()]
        times += [self._flying[0][0]] if self._flying else []
        self._now_us = max(self._now_us + 1, min(at for at in times if at is not None))

    def run(self, limit_us: int = 600_000_000) -> Result:
        """Run until everything is delivered and acknowledged.

        Raises
        ------
        TimeoutError
            The exchange takes more than `limit_us` of virtual time.
        """
        # An end is idle when all its data has been acknowledged.
        while not (self.ours.idle and self.c_library.idle):
            self._step()
            if self._now_us - self._start_us > limit_us:
                raise TimeoutError(f"not over after {limit_us / 1e6:.0f} s of virtual time")
        up, down = self._sources
        return Result(
            (up.digest, down.digest),
            (self._sinks[0].digest, self._sinks[1].digest),
            self._sinks[0].bytes + self._sinks[1].bytes,
            self._now_us - self._start_us,
            self._datagrams,
            self._lost,
            self.ours.engine,
            self.traces,
        )


def _lines(name: str, result: Result) -> Iterator[str]:
    counts, receiving = result.ours.counts, result.ours.receiving
    seconds = result.duration_us / 1e6
    yield f"== {name}: {result.bytes:,} bytes in {seconds:.2f} s ({result.bytes * 8e-6 / seconds:.1f} Mb/s)"
    for sent, received in zip(result.sent, result.received, strict=True):
        if sent != NOTHING:
            yield f"   sha256 sent     {sent}"
            yield f"   sha256 received {received}  {'equal' if sent == received else 'DIFFERENT'}"
    yield f"   datagrams {result.datagrams:,}, lost {result.lost / result.datagrams:.2%}"
    yield (
        f"   our engine: sent {counts.segments_sent} (lost {counts.lost}, early {counts.early},"
        f" fast {counts.fast}, spurious {result.ours.recovery.spurious}); received {receiving.segments}"
        f" (duplicates {receiving.duplicates}); foreign {counts.foreign};"
        f" srtt {result.ours.rtt.srtt_us / 1000:.1f} ms"
    )
    both = sorted(result.traces[0].lines + result.traces[1].lines, key=lambda noted: noted[0])
    yield from (f"   {line}" for _, line in both)


def main() -> int:
    """Return 0 if every byte arrived unchanged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--trace", type=int, default=6, help="segments to show each way")
    options = parser.parse_args()
    total, intact = options.megabytes * 1_000_000, True
    for recovery in RECOVERIES:
        for role, amounts in (("we send", {"up": total}), ("the C library sends", {"down": total})):
            result = Exchange(recovery, loss=options.loss, trace=options.trace, **amounts).run()
            print("\n".join(_lines(f"{recovery}, {role}", result)), flush=True)
            intact = intact and result.intact and result.bytes == total
    return 0 if intact else 1


if __name__ == "__main__":
    sys.exit(main())
