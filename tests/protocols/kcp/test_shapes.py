"""The state of an engine does not depend on how datagrams are handed over: as the kernel merged them, one
datagram at a time, or one segment at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.wire import MASK
from tests.protocols.kcp.ends import (
    ACK,
    CONV,
    PUSH,
    WASK,
    WINS,
    Sink,
    ack,
    batch,
    batches,
    engine,
    examples,
    push,
    seg,
    segments_of,
    stock_recovery,
)

MTU, LIMIT, SENT = 64, 64, 30
FIRST = (1 << 32) - 40
"""Serial numbers cross the wrap in the middle of every example."""
STAMP_US, AGAIN_US, NOW_US = 1_000, 401_000, 440_000

Feed = Callable[[Engine, list[bytes]], None]


def _whole(one: Engine, datagrams: list[bytes]) -> None:
    for merged in batches(datagrams):
        one.receive(merged, NOW_US)


def _one_datagram_at_a_time(one: Engine, datagrams: list[bytes]) -> None:
    for datagram in datagrams:
        one.receive(batch(datagram), NOW_US)


def _one_segment_at_a_time(one: Engine, datagrams: list[bytes]) -> None:
    for datagram in datagrams:
        rest = datagram
        while rest:
            cut = 24 + int.from_bytes(rest[20:24], "little")
            if len(rest) < 24 or rest[4] not in (PUSH, ACK, WASK, WINS) or cut > len(rest):
                cut = len(rest)
            if int.from_bytes(rest[:4], "little") != CONV:
                cut = len(rest)  # segments after a foreign one are not read
            one.receive(batch(rest[:cut]), NOW_US)
            rest = rest[cut:]


def _payload(number: int, size: int) -> bytes:
    return bytes((number * 31 + at) & 255 for at in range(size))


# A segment, in words; serial numbers and echoes are offsets that `_datagram` resolves.
_PUSHES = st.tuples(st.just("push"), st.integers(-5, 30), st.sampled_from([40, 40, 40, 40, 13, 0]))
_ACKS = st.tuples(st.just("ack"), st.integers(-3, SENT + 3), st.sampled_from(["first", "again", "never"]))
_STRANGE = st.sampled_from(["foreign", "command", "long", "truncated"]).map(lambda name: (name, 0, 0))
_ASKS = st.sampled_from([WASK, WINS]).map(lambda cmd: ("ask", cmd, 0))
_RUNS = st.tuples(st.just("run"), st.integers(-3, 20), st.integers(1, 9))
_ACK_RUNS = st.tuples(st.just("acks"), st.integers(-1, SENT - 5), st.integers(1, 9))
_ANY = st.one_of(_PUSHES, _ACKS, _STRANGE, _ASKS)
_DATAGRAMS = st.one_of(
    _RUNS.map(lambda run: [run]),
    _ACK_RUNS.map(lambda run: [run]),
    st.lists(_PUSHES, min_size=1, max_size=1),
    st.lists(_ACKS, min_size=1, max_size=2),
    st.lists(_ANY, min_size=1, max_size=5),
)
_WINDOWS = st.tuples(st.integers(-4, SENT), st.integers(0, 80))


def _segment(kind: str, first: Any, second: Any, una: int, wnd: int) -> bytes:
    fields = {"una": (FIRST + una) & MASK, "wnd": wnd}
    number = FIRST + int(first)
    if kind == "push":
        return push(number & MASK, _payload(number, second), ts=77 + int(first), **fields)
    if kind == "ack":
        return ack(number & MASK, {"first": STAMP_US, "again": AGAIN_US, "never": 5}[second], **fields)
    if kind == "ask":
        return seg(first, **fields)
    return {
        "foreign": push(FIRST & MASK, b"stranger", conv=CONV ^ 0x100),
        "command": seg(99, b"", **fields),
        "long": push(FIRST & MASK, b"liar", length=4_000_000_000),
        "truncated": seg(ACK, b"", **fields)[:11],
    }[kind]


def _datagrams(script: list[tuple[list[tuple[str, Any, Any]], tuple[int, int]]]) -> list[bytes]:
    """A run becomes many datagrams, everything else one."""
    made = []
    for words, (una, wnd) in script:
        kind, first, count = words[0]
        if kind == "run":
            made += [_segment("push", first + i, 40, una, wnd) for i in range(count)]
        elif kind == "acks":
            made.append(
                b"".join(_segment("ack", first + i, "first", min(una, first), wnd) for i in range(count))
            )
        else:
            made.append(b"".join(_segment(*word, una, wnd) for word in words))
    return made


def _end(kind: str) -> tuple[Engine, Sink]:
    """An engine with SENT segments in flight; with stock recovery all of them were sent again."""
    sink = Sink()
    one = engine(
        stock_recovery(resend=0) if kind == "stock" else None,
        None,
        sink,
        mtu=MTU,
        send_window=64,
        receive_window=LIMIT,
        nagle=False,
        first_sn=FIRST,
    )
    one.write(memoryview(bytes(40 * (SENT - 1) + 11)), 0)
    # Stock recovery's timer sends all again at AGAIN_US, so echoes of both transmissions occur.
    stamps = [STAMP_US, AGAIN_US] if kind == "stock" else [STAMP_US]
    for at_us in stamps:
        one.transmit(at_us)
    assert one.recovery.in_flight == SENT
    assert one.counts.lost == (SENT if kind == "stock" else 0)
    return one, sink


def _state(one: Engine, sink: Sink) -> dict[str, Any]:
    """Everything but timing: samples of the RTT are taken once per batch, by design."""
    sending, receiving, recovery, counts = one.sending, one.receiving, one.recovery, one.counts
    rows = np.arange(sending.una, sending.nxt) & sending.mask
    said = [segment for segment in segments_of(one.transmit(NOW_US)) if segment.cmd != PUSH]
    acks = {segment.sn for segment in said if segment.cmd == ACK}
    # una covers the others, and how many of those are named depends on the grouping.
    above = {sn for sn in acks if ((sn - receiving.nxt) & MASK) < LIMIT}
    return {
        "sending": (sending.una, sending.nxt, sending.sacked, sending.bytes_acked, sending.shorts),
        "acked": sending.state.acked[rows].tolist(),
        "fastack": sending.state.fastack[rows][~sending.state.acked[rows]].tolist(),
        "recovery": (
            recovery.in_flight,
            recovery.spurious,
            one.delivery.marked_lost - recovery.spurious_losses,
        ),
        "receiving": (receiving.nxt, receiving.high, receiving.stored, receiving.bytes, receiving.segments),
        "counted": (receiving.duplicates, receiving.refused, counts.foreign),
        "delivered": bytes(sink.data),
        "peer window": one.peer_window,
        "acknowledges": above,
        "una": {segment.una for segment in said},
        "tells": [segment.cmd for segment in said if segment.cmd != ACK],
    }


def _fill(one: Engine, sink: Sink) -> bytes:
    """Send the missing segments, so that the stored ones come out."""
    for number in range(FIRST, FIRST + 40):
        if number >= one.receiving.nxt:
            one.receive(batch(push(number & MASK, _payload(number, 40))), NOW_US)
    return bytes(sink.data)


@pytest.mark.parametrize("kind", ["stock", "rack"])
@given(script=st.lists(st.tuples(_DATAGRAMS, _WINDOWS), min_size=1, max_size=6))
@examples(80)
def test_any_grouping_leaves_the_same_state(
    kind: str, script: list[tuple[list[tuple[str, Any, Any]], tuple[int, int]]]
) -> None:
    datagrams = _datagrams(script)
    states, filled = [], []
    for feed in (_whole, _one_datagram_at_a_time, _one_segment_at_a_time):
        one, sink = _end(kind)
        feed(one, datagrams)
        states.append(_state(one, sink))
        filled.append(_fill(one, sink))
    assert states[0] == states[1]
    assert states[1] == states[2]
    assert filled[0] == filled[1] == filled[2]


@given(order=st.permutations(range(8)), repeats=st.lists(st.integers(0, 7), max_size=4))
@examples(100)
def test_a_shuffled_batch_comes_out_in_order(order: list[int], repeats: list[int]) -> None:
    sink = Sink()
    one = engine(None, None, sink, mtu=MTU)
    numbers = order + repeats
    one.receive(batch(*(push(number, _payload(number, 40)) for number in numbers)), 0)
    assert bytes(sink.data) == b"".join(_payload(number, 40) for number in range(8))
    assert one.receiving.duplicates == len(repeats)


@pytest.mark.parametrize("feed", [_whole, _one_datagram_at_a_time])
def test_a_segment_that_was_refused_is_not_acknowledged(feed: Feed) -> None:
    """Or its sender would forget it, and the stream would never go on."""
    one = engine(None, None, None, mtu=MTU, receive_window=4)
    beyond = [push(number, b"x" * 40) for number in (0, 1, 40, 41)]
    too_long = [push(2, b"y" * 200), push(3, b"y" * 200)]
    feed(one, beyond + too_long)
    assert one.receiving.refused == 4
    said = segments_of(one.transmit(NOW_US))
    assert {segment.una for segment in said} == {2}
    assert {segment.sn for segment in said} <= {0, 1}


def test_a_run_that_reaches_beyond_the_window_is_acknowledged_as_far_as_it_was_taken() -> None:
    sink = Sink()
    one = engine(None, None, sink, mtu=MTU, receive_window=4)
    one.receive(batch(*(push(number, _payload(number, 40)) for number in range(7))), 0)
    said = segments_of(one.transmit(0))
    assert {segment.una for segment in said} == {4}
    assert {segment.sn for segment in said} == {0, 1, 2, 3}
    assert len(sink.data) == 160
