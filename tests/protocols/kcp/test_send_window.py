"""The send window against lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import MASK
from tests.protocols.kcp.ends import CONV, PUSH, examples, parse

MTU = 40
MSS = MTU - 24


@dataclass
class Sent:
    """A segment in the model."""

    payload: bytearray
    written_us: int
    acked: bool = False
    stamps: list[int] = field(default_factory=list)


def datagram(window: SendWindow, number: int, size: int) -> bytes:
    """The first bytes of a segment's datagram."""
    return window.packets.copies(np.array([number]), size).tobytes()


def packet_sn(window: SendWindow, number: int) -> int:
    """The serial number in the header of a segment."""
    return int.from_bytes(datagram(window, number, 24)[12:16], "little")


class Against(RuleBasedStateMachine):
    """Random writes, transmissions and acknowledgements; after each, every row and counter is compared."""

    @initialize(limit=st.sampled_from([1, 3, 64, 700]), first=st.sampled_from([0, (1 << 32) - 70]))
    def start(self, limit: int, first: int) -> None:
        self.window = SendWindow(CONV, MTU, limit, first)
        self.limit, self.first, self.mss = limit, first, MSS
        self.segments: dict[int, Sent] = {}
        self.una = self.nxt = self.end = first
        self.now_us = (1 << 32) - 50
        self.bytes_acked = 0
        self.byte = 0

    def _open_tail(self) -> Sent | None:
        """The last segment, if it is not full and has not left."""
        last = self.segments.get(self.end - 1)
        return last if last and self.end > self.nxt and len(last.payload) < self.mss else None

    @rule(
        size=st.one_of(st.integers(0, 3 * MSS), st.integers(0, 400 * MSS), st.just(5 * MSS)),
        most=st.integers(-1, 500),
    )
    def write(self, size: int, most: int) -> None:
        self.now_us += 3
        data = bytes((self.byte + at) & 255 for at in range(size))
        tail = self._open_tail()
        free_bytes = max(0, min(most, self.limit - (self.end - self.una))) * self.mss
        free_bytes += self.mss - len(tail.payload) if tail else 0
        assert self.window.room_bytes(most) == free_bytes
        taken = self.window.write(memoryview(data), most, self.now_us)
        assert taken == min(size, free_bytes)
        data = data[:taken]
        self.byte += taken
        if tail and data:
            more = self.mss - len(tail.payload)
            tail.payload += data[:more]
            data = data[more:]
        while data:
            self.segments[self.end] = Sent(bytearray(data[: self.mss]), self.now_us)
            self.end += 1
            data = data[self.mss :]

    @precondition(lambda self: self.nxt < self.end)
    @rule(share=st.floats(0.01, 1), una=st.integers(0, MASK), wnd=st.integers(0, 65_535))
    def transmit(self, share: float, una: int, wnd: int) -> None:
        self.now_us += 7
        last = self.nxt + max(1, int(share * (self.end - self.nxt)))
        waited = sum(self.now_us - self.segments[n].written_us for n in range(self.nxt, last))
        assert self.window.waited_us(self.nxt, last, self.now_us) == waited
        self.window.stamp_new(self.nxt, last, self.now_us, una, wnd)
        for number in range(self.nxt, last):
            self.segments[number].stamps.append(self.now_us)
            self._check_row(number, una, wnd)
        self.nxt = last

    @rule(mtu=st.sampled_from([30, MTU, 90]))
    def another_size(self, mtu: int) -> None:
        self.window.set_mtu(mtu)
        self.mss = mtu - 24

    @precondition(lambda self: self.una < self.nxt)
    @rule(data=st.data(), una=st.integers(0, MASK), wnd=st.integers(0, 65_535))
    def again(self, data: st.DataObject, una: int, wnd: int) -> None:
        self.now_us += 5
        missing = [n for n in range(self.una, self.nxt) if not self.segments[n].acked]
        if not missing:
            return
        chosen = sorted(data.draw(st.sets(st.sampled_from(missing), min_size=1, max_size=6)))
        rows = self.window.stamp_again(np.array(chosen), self.now_us, una, wnd)
        assert rows.tolist() == [number & self.window.mask for number in chosen]
        for number in chosen:
            self.segments[number].stamps.append(self.now_us)
            self._check_row(number, una, wnd)

    def _check_row(self, number: int, una: int, wnd: int) -> None:
        sent = self.segments[number]
        packet = datagram(self.window, number, 24 + len(sent.payload))
        (segment,) = parse(packet)
        assert segment[:7] == (CONV, PUSH, 0, wnd, sent.stamps[-1] & MASK, number & MASK, una)
        assert segment.payload == sent.payload

    @precondition(lambda self: self.end > self.first)
    @rule(data=st.data())
    def mark(self, data: st.DataObject) -> None:
        reach = st.integers(max(0, self.una - 3), self.nxt + 2)
        numbers = data.draw(st.lists(reach, min_size=1, max_size=12))
        fresh, at = self.window.mark(np.array(numbers))
        expected = sorted({n for n in numbers if self.una <= n < self.nxt and not self.segments[n].acked})
        assert fresh.tolist() == expected
        assert [numbers[i] for i in at.tolist()] == expected
        for number in expected:
            self.segments[number].acked = True
            self.bytes_acked += len(self.segments[number].payload)

    @precondition(lambda self: self.end > self.first)
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        una = data.draw(st.integers(max(0, self.una - 2), self.nxt + 2))
        gone = range(self.una, min(una, self.nxt))
        newly = [n for n in gone if not self.segments[n].acked]
        lost = newly[::3]
        self.window.state.lost[np.array(lost, np.int64) & self.window.mask] = True
        assert self.window.advance(una) == (len(newly), len(lost))
        self.bytes_acked += sum(len(self.segments[n].payload) for n in newly)
        for number in gone:
            del self.segments[number]
        self.una = max(self.una, min(una, self.nxt))

    @invariant()
    def counters(self) -> None:
        if not hasattr(self, "window"):
            return
        window = self.window
        assert (window.una, window.nxt, window.end) == (self.una, self.nxt, self.end)
        assert window.queued == self.end - self.nxt
        flying = range(self.una, self.nxt)
        assert window.sacked == sum(self.segments[n].acked for n in flying)
        assert window.bytes_acked == self.bytes_acked
        assert window.shorts == sum(len(s.payload) != self.mss for s in self.segments.values())
        tail = self._open_tail()
        assert window.tail_fill == (len(tail.payload) if tail else 0)
        assert window.outstanding(0, self.end + 9).tolist() == [
            n for n in flying if not self.segments[n].acked
        ]
        assert window.capacity & window.mask == 0
        assert self.end - self.una <= window.capacity

    @invariant()
    def rows(self) -> None:
        if not hasattr(self, "window"):
            return
        window = self.window
        for number, sent in self.segments.items():
            row = number & window.mask
            assert datagram(window, number, 24 + len(sent.payload))[24:] == sent.payload
            assert window.state.length[row] == len(sent.payload)
            assert not window.state.lost[row]
            if sent.stamps:
                assert packet_sn(window, number) == number & MASK
                assert window.state.acked[row] == sent.acked
                assert window.state.sent_us[row] == sent.stamps[-1]
                assert window.state.transmissions[row] == len(sent.stamps)
            else:
                assert not window.state.acked[row]


TestAgainstLists = Against.TestCase
TestAgainstLists.settings = examples(50, steps=30)


@given(first=st.integers(0, 1 << 33), count=st.integers(0, 256))
def test_pieces_cover_the_ring_once(first: int, count: int) -> None:
    window = SendWindow(CONV, MTU, 256, 0)
    rows = [row for start, stop in window.pieces(first, first + count) for row in range(start, stop)]
    assert rows == [number & window.mask for number in range(first, first + count)]


@pytest.mark.parametrize(
    "name", ["sent_us", "transmissions", "resend_us", "rto_us", "fastack", "acked", "lost", "length"]
)
def test_growing_keeps_the_state_of_every_segment(name: str) -> None:
    """At a place where rows move: half of the window lies beyond a multiple of the old capacity."""
    first = 256 * 5 + 128
    window = SendWindow(CONV, MTU, 4_096, first)
    window.write(memoryview(bytes(250 * MSS)), 4_096, 0)
    window.stamp_new(first, first + 250, 1, 0, 0)
    # A different value per segment, so that a row that moved wrongly shows.
    rows = np.arange(first, first + 250) & window.mask
    state: np.ndarray[Any, Any] = getattr(window.state, name)
    state[rows] = np.arange(250) % 2 if state.dtype == bool else np.arange(250)
    expected = state[rows].tolist()
    assert window.capacity == 256
    window.write(memoryview(bytes(2_000 * MSS)), 4_096, 0)
    assert window.capacity == 4_096
    kept = getattr(window.state, name)[np.arange(first, first + 250) & window.mask]
    assert kept.tolist() == expected
