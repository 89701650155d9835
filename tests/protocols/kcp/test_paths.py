"""Whatever the path does, the bytes arrive, once, in order, and the books balance at every step.

A hundred seeded paths by default; IPERFPY_KCP_PATHS=10000 for more. A failure names its seed.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from tests.protocols.kcp.ends import Fixed, RecoveryFactory, engine, stock_recovery
from tests.protocols.kcp.exchange import Exchange, Stream, Way

PATHS = int(os.environ.get("IPERFPY_KCP_PATHS", "100"))
BLOCK = 20
"""Paths per test case: enough to keep the report short."""


def _way(rng: random.Random) -> Way:
    outage = (100_000, 100_000 + rng.randrange(10_000, 3_000_000))
    return Way(
        delay_us=rng.choice((200, 5_000, 40_000, 150_000)),
        jitter_us=rng.choice((0, 0, 300, 5_000, 60_000)),
        loss=rng.choice((0.0, 0.0, 0.01, 0.05, 0.3)),
        duplicate=rng.choice((0.0, 0.0, 0.05)),
        corrupt=rng.choice((0.0, 0.0, 0.05)),
        join=rng.choice((0.0, 0.0, 0.3)),
        outages=rng.choice(((), (), (), (outage,))),
    )


def _recovery(rng: random.Random) -> RecoveryFactory | None:
    if rng.random() < 0.5:
        return None
    return stock_recovery(
        nodelay=rng.random() < 0.5, interval_us=rng.choice((10_000, 40_000)), resend=rng.choice((0, 2, 3))
    )


def _control(rng: random.Random) -> Fixed | None:
    kind = rng.randrange(3)
    if kind == 0:
        return None
    if kind == 1:
        return Fixed(rng.choice((1, 2, 10, 200)), burst=rng.choice((1, 4, 16)))
    return Fixed(rng.choice((4, 100)), rng.choice((200.0, 5_000.0)), rng.choice((1, 8)))


def _options(rng: random.Random) -> dict[str, Any]:
    return {
        "send_window": rng.choice((1, 5, 32, 300)),
        "receive_window": rng.choice((4, 64, 300)),
        "tick_us": rng.choice((10_000, 40_000)),
        "ack_nodelay": rng.random() < 0.7,
        "write_delay": rng.random() < 0.3,
        "nagle": rng.random() < 0.6,
        "ack_repeats": rng.choice((0, 3)),
    }


def build(seed: int) -> Exchange:
    """The path, the two ends and the data that this seed stands for."""
    rng = random.Random(seed)
    first_sn = (1 << 32) - rng.randrange(1, 300) if rng.random() < 0.4 else 0
    start_us = (1 << 32) - rng.randrange(1, 500_000) if rng.random() < 0.4 else rng.randrange(10)
    mtu = rng.choice((100, 300, 1_400))
    options, controls = [_options(rng), _options(rng)], [_control(rng), _control(rng)]
    streams = []
    for at, (settings, control) in enumerate(zip(options, controls, strict=True)):
        chunk = rng.choice((7, 100, 5_000, 1 << 16))
        slow = settings["send_window"] == 1 or (control is not None and control.window == 1)
        segments = rng.randrange(1, 25 if slow else 200)
        # Most paths carry data one way only, as tests do.
        if at == 1 and rng.random() < 0.6:
            segments = 0
        streams.append(
            Stream(segments * min(chunk, mtu - 24), rng.getrandbits(32), chunk, rng.choice((0, 0, 2_000)))
        )
    ends = [
        engine(_recovery(rng), control, streams[1 - at].deliver, mtu=mtu, first_sn=first_sn, **settings)
        for at, (settings, control) in enumerate(zip(options, controls, strict=True))
    ]
    return Exchange(
        ends[0],
        ends[1],
        _way(rng),
        _way(rng),
        (streams[0], streams[1]),
        seed=seed,
        start_us=start_us,
        first_sn=first_sn,
    )


def _finish(exchange: Exchange) -> None:
    exchange.run()
    exchange.drain()
    for one, stream in zip(exchange.ends, exchange.data, strict=True):
        assert stream.intact
        assert one.recovery.in_flight == 0
        assert one.sending.bytes_acked == stream.written == stream.total
    for sender, receiver in (exchange.ends, exchange.ends[::-1]):
        assert receiver.receiving.segments == sender.sending.nxt - exchange.ends[0].options.first_sn
        # Nothing is left to wake for once everything is acknowledged.
        assert sender.recovery.deadline_us() is None


@pytest.mark.parametrize("first", range(0, PATHS, BLOCK))
def test_every_path_delivers(first: int) -> None:
    for seed in range(first, min(PATHS, first + BLOCK)):
        try:
            _finish(build(seed))
        except AssertionError as error:
            raise AssertionError(f"path {seed}: {error}") from error


@pytest.mark.parametrize("seed", range(12))
def test_without_loss_every_spurious_resend_is_a_duplicate(seed: int) -> None:
    """On a path that loses nothing every retransmission is a second arrival."""
    rng = random.Random(seed)
    way = Way(delay_us=20_000, jitter_us=rng.choice((0, 3_000, 30_000)))
    streams = (Stream(300_000, seed), Stream(0, 0))
    left = engine(stock_recovery() if seed % 2 else None, Fixed(64), mtu=1_400)
    right = engine(None, None, streams[0].deliver, mtu=1_400)
    exchange = Exchange(left, right, way, way, streams, seed=seed)
    exchange.run()
    exchange.drain()
    counts = left.counts
    resent = counts.lost + counts.early + counts.fast
    assert right.receiving.duplicates == resent
    assert left.recovery.spurious <= resent
    assert right.receiving.refused == 0
