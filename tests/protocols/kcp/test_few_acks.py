"""A handful of ACKs is looked at one by one when una says all: with the same result as the arrays have."""

from __future__ import annotations

import random

import numpy as np
import pytest

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.profiles import stock, with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings

CONV, RTT_US = 7, 20_000


def engine(name: str) -> Engine:
    return with_bbr(CONV, KcpBbrSettings()) if name == "kcp-bbr" else stock(CONV, KcpSettings())


def figures(one: Engine) -> list[object]:
    sending, counts = one.sending, one.counts
    return [
        (sending.una, sending.nxt, sending.sacked, sending.bytes_acked),
        (one.recovery.in_flight, one.recovery.spurious, one.recovery.mistaken, one.deadline_us()),
        [getattr(counts, name) for name in counts.__slots__],
        (one.rtt.srtt_us, one.rtt.samples, one.accounting.delivered, one.accounting.lost, one.peer_window),
        one.control.state() if one.control else None,
    ]


def some_acks(one: Engine, chance: random.Random) -> bytes:
    """ACKs as a receiver sends them, one per run that arrived in order; now and then something is odd."""
    sending = one.sending
    said: list[tuple[int, int]] = []
    number = sending.una
    while number < sending.nxt and len(said) < chance.randint(1, 30):
        number = min(sending.nxt, number + chance.randint(1, 12))
        said.append((number - 1, number))
    odd = chance.choice(("", "", "", "", "swapped", "twice", "early", "echo", "conv"))
    if odd == "swapped":
        said.reverse()
    elif odd == "twice":
        said += said[:2]
    elif odd == "early" and said:
        said[-1] = (said[-1][0], sending.una)
    segments = []
    for sn, una in said:
        echo_us = int(sending.sent_us[sn & sending.mask]) - (odd == "echo")
        conv = CONV + (odd == "conv")
        segments.append(wire.control_segment(conv, wire.ACK, 900 + len(said), una, echo_us, sn))
    return b"".join(segments)


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
@pytest.mark.parametrize("seed", range(5))
def test_one_by_one_and_as_arrays_come_to_the_same(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, twin = engine(name), engine(name)
    monkeypatch.setattr(twin, "_take_few_acks", lambda batch, now_us: False)
    chance, now_us, taken = random.Random(seed), 1_000_000, 0
    block = memoryview(bytes(64 * one.sending.mss))
    take_few = one._take_few_acks

    def counting(batch: DatagramBatch, at_us: int) -> bool:
        nonlocal taken
        did = take_few(batch, at_us)
        taken += did
        return did

    monkeypatch.setattr(one, "_take_few_acks", counting)
    for _ in range(400):
        size = chance.randint(1, len(block))
        for end in (one, twin):
            end.write(block[: min(size, end.writable())], now_us)
            end.transmit(now_us)
        now_us += chance.randint(100, RTT_US)
        if said := some_acks(one, chance):
            data = np.frombuffer(said, np.uint8)
            for end in (one, twin):
                end.receive(
                    DatagramBatch.of(data, len(data) if len(data) < 900 else wire.HEADER_BYTES), now_us
                )
        assert figures(one) == figures(twin)
    assert taken > 20
