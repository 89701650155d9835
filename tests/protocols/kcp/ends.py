"""Engines put together by hand, controllers that only obey, and segments written out independently."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from hypothesis import settings

from iperfpy.protocols.congestion.congestion_control import UNLIMITED, Ack, Loss
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_options import EngineOptions
from iperfpy.protocols.kcp.loss_recovery.rack import Rack
from iperfpy.protocols.kcp.loss_recovery.stock import StockRecovery
from iperfpy.protocols.kcp.receive_window import Deliver
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.send_window import SendWindow

CONV = 0x1122_3344
PUSH, ACK, WASK, WINS = 81, 82, 83, 84
_TIMES = int(os.environ.get("IPERFPY_EXAMPLES", "0"))
_LAYOUT = struct.Struct("<IBBHIIII")


def examples(count: int, steps: int = 50) -> settings:
    """Try `count` examples, equal in every run; IPERFPY_EXAMPLES=10 tries ten times as many, new ones."""
    return settings(
        max_examples=count * (_TIMES or 1),
        stateful_step_count=steps,
        derandomize=not _TIMES,
        deadline=None,
    )


class Seg(NamedTuple):
    """One segment as the wire has it."""

    conv: int
    cmd: int
    frg: int
    wnd: int
    ts: int
    sn: int
    una: int
    payload: bytes


class Fixed:
    """Congestion control with a fixed grant, which keeps every record that it gets."""

    name: ClassVar[str] = "fixed"

    def __init__(self, window: int = 1 << 20, rate: float = UNLIMITED, burst: int = 8) -> None:
        self.window, self.pacing_rate, self.burst = window, rate, burst
        self.acks: list[Ack] = []
        self.losses: list[Loss] = []
        self.timeouts: list[int] = []
        self.idles: list[int] = []

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None:
        assert segments > 0
        assert in_flight > 0

    def on_ack(self, ack: Ack) -> None:
        self.acks.append(ack)

    def on_loss(self, loss: Loss) -> None:
        assert loss.segments > 0
        self.losses.append(loss)

    def on_timeout(self, now_us: int) -> None:
        self.timeouts.append(now_us)

    def on_idle(self, now_us: int) -> None:
        self.idles.append(now_us)

    def state(self) -> Mapping[str, float | int | str | None]:
        return {}


def stock_recovery(*, nodelay: bool = True, interval_us: int = 10_000, resend: int = 2) -> RecoveryFactory:
    """Stock recovery, as `engine_factory.stock` makes it."""
    return lambda window, _: StockRecovery(window, nodelay=nodelay, interval_us=interval_us, resend=resend)


RecoveryFactory = Callable[[SendWindow, RttEstimator], Any]


def engine(
    recovery: RecoveryFactory | None = None,
    control: Fixed | None = None,
    deliver: Deliver | None = None,
    **options: Any,
) -> Engine:
    """Make an engine, with `Rack` unless another recovery is given."""
    return Engine(CONV, EngineOptions(**options), recovery or Rack, control, deliver)


class Sink:
    """Takes payload in order and keeps it."""

    def __init__(self) -> None:
        self.data = bytearray()

    def __call__(self, payload: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self.data += np.ascontiguousarray(payload).tobytes()


# ------------------------------------------------------------------ wire, written out independently


def seg(cmd: int, payload: bytes = b"", /, **fields: int) -> bytes:
    """One segment; every field but cmd has a default, `length` may lie."""
    get = fields.get
    header = _LAYOUT.pack(
        get("conv", CONV),
        cmd,
        get("frg", 0),
        get("wnd", 128),
        get("ts", 0),
        get("sn", 0),
        get("una", 0),
        get("length", len(payload)),
    )
    return header + payload


def push(sn: int, payload: bytes, /, **fields: int) -> bytes:
    return seg(PUSH, payload, sn=sn, **fields)


def ack(sn: int, ts: int, una: int = 0, **fields: int) -> bytes:
    return seg(ACK, sn=sn, ts=ts, una=una, **fields)


def batch(*datagrams: bytes) -> DatagramBatch:
    """Datagrams of one size (the last may be shorter) as one batch."""
    stride = len(datagrams[0])
    assert all(len(datagram) == stride for datagram in datagrams[:-1])
    assert len(datagrams[-1]) <= stride
    data = np.frombuffer(b"".join(datagrams), np.uint8)
    return DatagramBatch(data, stride, len(datagrams), len(datagrams[-1]))


def batches(datagrams: Iterable[bytes]) -> list[DatagramBatch]:
    """Datagrams of any sizes, grouped as receive offload groups them: a shorter one ends its run."""
    groups: list[list[bytes]] = []
    for datagram in datagrams:
        run = groups[-1] if groups else None
        if run and len(run[-1]) == len(run[0]) >= len(datagram) and len(run) < 64:
            run.append(datagram)
        else:
            groups.append([datagram])
    return [batch(*group) for group in groups]


def datagrams_of(sent: Iterable[DatagramBatch]) -> list[bytes]:
    """Copies of the datagrams in batches."""
    return [datagram.tobytes() for one in sent for datagram in one]


def parse(datagram: bytes) -> list[Seg]:
    """The segments of a datagram that must be well formed."""
    found = []
    while datagram:
        conv, cmd, frg, wnd, ts, sn, una, length = _LAYOUT.unpack_from(datagram)
        assert len(datagram) >= 24 + length
        found.append(Seg(conv, cmd, frg, wnd, ts, sn, una, datagram[24 : 24 + length]))
        datagram = datagram[24 + length :]
    return found


def segments_of(sent: Iterable[DatagramBatch]) -> list[Seg]:
    return [segment for datagram in datagrams_of(sent) for segment in parse(datagram)]


def numbers_of(sent: Iterable[DatagramBatch]) -> list[int]:
    """Serial numbers of the data segments in batches."""
    return [segment.sn for segment in segments_of(sent) if segment.cmd == PUSH]


# --------------------------------------------------------------------------- invariants


@dataclass(frozen=True)
class Recount:
    """The send window, counted again from its arrays."""

    in_flight: int
    sacked: int

    @classmethod
    def of(cls, one: Engine) -> Recount:
        window = one.sending
        rows = np.arange(window.una, window.nxt) & window.mask
        acked, lost = window.state.acked[rows], window.state.lost[rows]
        assert not (acked & lost).any()
        return cls(int((~acked & ~lost).sum()), int(acked.sum()))


def check(one: Engine, now_us: int, first_sn: int = 0) -> None:
    """The invariants of an engine after `transmit(now_us)`."""
    window, counts, receiving = one.sending, one.counts, one.receiving
    assert first_sn <= window.una <= window.nxt <= window.end
    assert window.end - window.una <= window.limit
    recount = Recount.of(one)
    assert one.recovery.in_flight == recount.in_flight
    assert window.sacked == recount.sacked
    resent = counts.lost + counts.early + counts.fast
    assert counts.segments_sent == window.nxt - first_sn + resent
    assert 0 <= one.recovery.spurious <= resent
    assert 0 <= one.recovery.spurious_losses <= one.delivery.marked_lost
    assert receiving.segments == receiving.nxt - first_sn
    assert receiving.nxt + receiving.stored <= receiving.high or not receiving.stored
    deadline_us = one.deadline_us()
    corked = one.corked and window.tail_fill > 0  # the last segment waits for its writer
    if window.una < window.end - corked:
        assert deadline_us is not None, "data waits and no deadline exists"
    assert deadline_us is None or deadline_us > now_us, "a deadline that has passed makes its owner spin"


class Half:
    """The sending half of an engine, with the test as its path and peer.

    Remembers the stamps under which every segment left, oldest first.
    """

    MSS = 76

    def __init__(
        self, recovery: RecoveryFactory | None = None, control: Fixed | None = None, **options: Any
    ) -> None:
        options = {"mtu": self.MSS + 24, "send_window": 4_096, "receive_window": 4_096, **options}
        self.engine = engine(recovery, control, None, **options)
        self.recovery: Any = self.engine.recovery
        self.counts = self.engine.counts
        self.stamps: dict[int, list[int]] = {}

    def write(self, segments: float, now_us: int) -> None:
        """Queue this many full segments (a fraction is a short one)."""
        size = round(segments * self.MSS)
        assert self.engine.write(memoryview(bytes(size)), now_us) == size

    def transmit(self, now_us: int, *, writer_waits: bool = False) -> list[int]:
        """The serial numbers that leave now, in order."""
        out = self.engine.transmit(now_us, writer_waits=writer_waits)
        sent = [segment for segment in segments_of(out) if segment.cmd == PUSH]
        for segment in sent:
            self.stamps.setdefault(segment.sn, []).append(segment.ts)
        check(self.engine, now_us, self.engine.options.first_sn)
        return [segment.sn for segment in sent]

    def send(self, segments: float, now_us: int) -> list[int]:
        """Write and transmit."""
        self.write(segments, now_us)
        return self.transmit(now_us)

    def acked(self, now_us: int, *numbers: int, una: int | None = None, copy: int = -1) -> None:
        """An ACK datagram arrives for these, echoing their last stamp (or their `copy`-th)."""
        low = self.engine.sending.una if una is None else una
        acks = [ack(number, self.stamps[number][copy], low) for number in numbers]
        self.engine.receive(batch(b"".join(acks)), now_us)

    def wait(self, until_us: int) -> list[tuple[int, list[int]]]:
        """Transmit at every deadline up to then; returns the times, and the serial numbers that left."""
        left = []
        while (at_us := self.engine.deadline_us()) is not None and at_us <= until_us:
            if sent := self.transmit(at_us):
                left.append((at_us, sent))
        return left
