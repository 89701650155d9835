"""A server is reachable by anyone: nothing that arrives may raise, or grow without bound."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.engine import Engine
from tests.protocols.kcp.ends import (
    ACK,
    CONV,
    PUSH,
    WASK,
    WINS,
    Fixed,
    Recount,
    ack,
    batches,
    engine,
    examples,
    push,
    seg,
    stock_recovery,
)

DATAGRAMS = int(os.environ.get("IPERFPY_KCP_GARBAGE", "6000"))
KINDS = ["rack", "stock"]


def _engine(kind: str) -> Engine:
    one = engine(
        stock_recovery() if kind == "stock" else None,
        Fixed(64),
        mtu=100,
        send_window=128,
        receive_window=128,
        ack_repeats=3 if kind == "rack" else 0,
    )
    one.write(memoryview(bytes(76 * 20)), 0)
    one.transmit(0)
    return one


def _counts_hold(one: Engine) -> None:
    recount = Recount.of(one)
    assert one.recovery.in_flight == recount.in_flight
    assert one.sending.sacked == recount.sacked
    assert one.sending.una <= one.sending.nxt <= one.sending.end
    assert one.receiving.stored <= one.receiving.limit
    assert one.recovery.spurious_losses <= one.delivery.marked_lost


@pytest.mark.parametrize("kind", KINDS)
@given(
    data=st.binary(max_size=300),
    stride=st.integers(1, 120),
    honest=st.booleans(),
)
@examples(150)
def test_arbitrary_bytes_do_not_harm_an_engine(kind: str, data: bytes, stride: int, honest: bool) -> None:
    """The stride of a run may also be larger than the data."""
    one = _engine(kind)
    if honest:
        data = CONV.to_bytes(4, "little") + data
    merged = DatagramBatch.of(np.frombuffer(data, np.uint8), stride)
    one.receive(merged, 1_000)
    one.transmit(1_000)
    assert one.counts.datagrams_received == merged.count
    _counts_hold(one)


@pytest.mark.parametrize("size", range(30))
def test_datagrams_shorter_than_a_header_are_foreign(size: int) -> None:
    for cmd in (PUSH, ACK, WASK, WINS, 0):
        one = _engine("rack")
        data = np.frombuffer(seg(cmd, bytes(10))[:size], np.uint8)
        for stride in (1, max(1, size), 24, 1_400):
            one.receive(DatagramBatch.of(data, stride), 1_000)
        one.transmit(1_000)
        if size < 24:
            assert one.counts.foreign > 0
            assert one.counts.acks_sent == 0


def _mutated(rng: random.Random, one: Engine) -> bytes:
    """A datagram that is nearly right: one that a peer might send, with a few bytes changed."""
    near = rng.choice((one.receiving.nxt, one.sending.una, one.sending.nxt)) + rng.randrange(-5, 200)
    word = rng.choice((near, rng.getrandbits(32)))
    fields = {"una": (one.sending.una + rng.randrange(-3, 3)) & 0xFFFF_FFFF, "wnd": rng.randrange(0, 300)}
    stamp = rng.choice((0, one.delivery.stamp_us, rng.getrandbits(32))) & 0xFFFF_FFFF
    parts: list[bytes] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        number = (word + len(parts)) & 0xFFFF_FFFF
        parts.append(
            rng.choice(
                (
                    push(number, bytes(rng.choice((76, 76, 10, 0))), ts=stamp, **fields),
                    ack(number, stamp, fields["una"], wnd=fields["wnd"]),
                    ack(number, stamp, fields["una"]) * rng.randrange(1, 4),
                    seg(rng.choice((WASK, WINS, 80, 85, 86)), **fields),
                )
            )
        )
    # Right so far; now garble a few bytes, or cut the end off.
    made = bytearray(b"".join(parts))
    for _ in range(rng.choice((0, 0, 1, 4))):
        made[rng.randrange(len(made))] = rng.getrandbits(8)
    if rng.random() < 0.1:
        del made[rng.randrange(1, len(made)) :]
    return bytes(made)


@pytest.mark.parametrize("kind", KINDS)
def test_nearly_valid_datagrams_do_not_harm_an_engine(kind: str) -> None:
    """Thousands of them, in runs, while the engine goes on sending. IPERFPY_KCP_GARBAGE=100000 for more."""
    rng = random.Random(kind)
    one, now_us, seen = _engine(kind), 1_000, 0
    asked = answered = 0
    while seen < DATAGRAMS:
        run = [_mutated(rng, one) for _ in range(rng.randrange(1, 5))]
        if rng.random() < 0.3:
            run = [run[0]] * rng.randrange(2, 8)
        for merged in batches(run):
            one.receive(merged, now_us)
        seen += len(run)
        now_us += rng.choice((0, 10, 1_000, 50_000))
        one.write(memoryview(bytes(rng.randrange(1, 300))), now_us)
        sent = one.transmit(now_us)
        _counts_hold(one)
        asked += sum(len(datagram) for datagram in run) + 24
        answered += sum(
            len(datagram) for sending in sent for datagram in sending if datagram[4] in (ACK, WINS)
        )
        # ACKs for early segments are repeated up to three times towards peers that understand.
        assert answered <= asked * (1 if kind == "stock" else 4)
        assert not one._acks.owed


@pytest.mark.parametrize("kind", KINDS)
def test_probes_are_not_amplified(kind: str) -> None:
    one = _engine(kind)
    for _ in range(1_000):
        one.receive(batches([seg(WASK)])[0], 10)
    (answer,) = [out for out in one.transmit(10) if out.data[4] == WINS]
    assert answer.size == 24


@pytest.mark.parametrize("kind", KINDS)
def test_another_conversation_changes_nothing(kind: str) -> None:
    """Right in every byte but the conv."""
    one, twin = _engine(kind), _engine(kind)
    stamp = one.delivery.stamp_us
    for strange in (
        [push(n, bytes(76), conv=CONV + 1) for n in range(5)],
        [ack(n, stamp, 20, conv=CONV + 1, wnd=0) for n in range(20)],
        [seg(WASK, conv=CONV + 1)],
    ):
        for merged in batches(strange):
            one.receive(merged, 1_000)
    assert one.counts.foreign == 26
    assert one.peer_window == twin.peer_window
    assert one.receiving.nxt == 0
    assert one.sending.una == 0
    assert one.transmit(1_000) == twin.transmit(1_000) == []
