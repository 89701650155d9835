"""A few ACKs are read one by one if una implies them all, with the same result as the arrays give."""

from __future__ import annotations

import random
from dataclasses import asdict

import numpy as np
import pytest

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock, with_bbr
from iperfpy.protocols.kcp.inbound import Acks
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings

CONV, RTT_US = 7, 20_000


def engine(name: str) -> Engine:
    return with_bbr(CONV, KcpBbrSettings()) if name == "kcp-bbr" else stock(CONV, KcpSettings())


def figures(one: Engine) -> list[object]:
    sending, counts = one.sending, one.counts
    return [
        (sending.una, sending.nxt, sending.sacked, sending.bytes_acked),
        (one.recovery.in_flight, one.recovery.spurious, one.recovery.spurious_losses, one.deadline_us()),
        asdict(counts),
        (one.rtt.srtt_us, one.rtt.samples, one.delivery.delivered, one.delivery.lost, one.peer_window),
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
    # Often nothing is odd, so that una implies all.
    odd = chance.choice(("", "", "", "", "swapped", "twice", "early", "echo", "conv"))
    if odd == "swapped":
        said.reverse()
    elif odd == "twice":
        said += said[:2]
    elif odd == "early" and said:
        said[-1] = (said[-1][0], sending.una)
    segments = []
    for sn, una in said:
        echo_us = int(sending.state.sent_us[sn & sending.mask]) - (odd == "echo")
        conv = CONV + (odd == "conv")
        segments.append(wire.control_segment(conv, wire.ACK, 900 + len(said), una, echo_us, sn))
    return b"".join(segments)


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
@pytest.mark.parametrize("seed", range(5))
def test_headers_and_columns_give_the_same_state(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, twin = engine(name), engine(name)
    monkeypatch.setattr(twin.delivery, "_implied_by_una", lambda acks: None)
    chance, now_us, taken = random.Random(seed), 1_000_000, 0
    block = memoryview(bytes(64 * one.sending.mss))
    implied_by_una = one.delivery._implied_by_una

    def counting(acks: Acks) -> int | None:
        nonlocal taken
        newest_us = implied_by_una(acks)
        taken += newest_us is not None
        return newest_us

    monkeypatch.setattr(one.delivery, "_implied_by_una", counting)
    for _ in range(200):
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
