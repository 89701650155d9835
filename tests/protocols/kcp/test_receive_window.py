"""The receive window against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iperfpy.protocols.kcp import receive_window
from iperfpy.protocols.kcp.inbound import Pushes
from iperfpy.protocols.kcp.receive_window import ReceiveWindow
from iperfpy.protocols.kcp.wire import Bytes, Int64s
from tests.protocols.kcp.ends import Sink, examples

MSS = 24


class Model:
    """One segment at a time, kept in a dictionary."""

    def __init__(self, limit: int, first: int) -> None:
        self.limit, self.nxt, self.first = limit, first, first
        self.held: dict[int, bytes] = {}
        self.data = b""
        self.duplicates = self.refused = 0

    def insert(self, number: int, payload: bytes, edge: int) -> bool:
        """`edge`: the window's end when the batch began."""
        if len(payload) > MSS or number >= edge:
            self.refused += 1
            return False
        if number < self.nxt or number in self.held:
            self.duplicates += 1
        else:
            self.held[number] = payload
            while self.nxt in self.held:
                self.data += self.held.pop(self.nxt)
                self.nxt += 1
        return True


def _payload(number: int, size: int) -> bytes:
    return bytes((number * 7 + at * 3) & 255 for at in range(size))


def _rows(numbers: list[int], size: int) -> tuple[Int64s, Bytes]:
    data = b"".join(_payload(number, size) for number in numbers)
    return np.array(numbers, np.int64), np.frombuffer(data, np.uint8).reshape(len(numbers), size)


# A batch: offsets from nxt, and one payload size; a size per serial number would be more general than
# any sender is, but batches of different sizes are mixed freely.
_SIZES = st.sampled_from([MSS, MSS, MSS, 5, 1, MSS + 1])
_BATCHES = st.tuples(
    st.one_of(
        st.lists(st.integers(-4, 24), min_size=1, max_size=12),
        st.tuples(st.integers(-2, 900), st.integers(1, 40)).map(lambda run: [*range(run[0], sum(run))]),
    ),
    _SIZES,
)


@given(
    script=st.lists(_BATCHES, min_size=1, max_size=25),
    limit=st.sampled_from([1, 2, 7, 16, 300, 1_000]),
    first=st.sampled_from([0, (1 << 32) - 9]),
)
@example(script=[([0, 2, 1, 3], MSS)], limit=16, first=0)
@example(script=[([800], MSS), ([*range(40)], MSS)], limit=1_000, first=0)
@examples(250)
def test_the_receive_window_agrees_with_a_model_of_dictionaries(
    script: list[tuple[list[int], int]], limit: int, first: int
) -> None:
    sink, model = Sink(), Model(limit, first)
    window = ReceiveWindow(MSS, limit, sink, first)
    for offsets, size in script:
        numbers = [max(0, window.nxt + offset) for offset in offsets]
        edge = model.nxt + limit
        array, rows = _rows(numbers, size)
        run = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        arrived = [model.insert(number, _payload(number, size), edge) for number in numbers]
        # A run has no column of numbers.
        high, duplicates = window.high, window.duplicates
        taken = window.take(Pushes(numbers[0], numbers[-1], 0, rows, None if run else array))
        accepted = taken.accepted
        # Segments that continue what arrived, with the next number, are no news for the sender.
        assert taken.is_news == (not run or numbers[0] != high)
        assert taken.has_repeats == (window.duplicates > duplicates)
        if accepted is None:
            # One ACK, for the last: una must cover every other segment that arrived.
            assert window.nxt == numbers[-1] + 1
            assert all(number < window.nxt for number, known in zip(numbers, arrived, strict=True) if known)
        else:
            assert accepted.tolist() == arrived
        assert window.nxt == model.nxt
        assert window.stored == len(model.held)
        assert window.stored_bytes == sum(map(len, model.held.values()))
        assert window.high == max([model.nxt, *(number + 1 for number in model.held)])
        assert (window.duplicates, window.refused) == (model.duplicates, model.refused)
        assert sink.data == model.data
        assert window.bytes == len(model.data)
        assert window.segments == model.nxt - first
    missing = [number for number in range(model.nxt, window.high) if number not in model.held]
    for number in missing:
        window.insert(*_rows([number], MSS))
        model.insert(number, _payload(number, MSS), number + 1)
    assert sink.data == model.data
    assert window.stored == 0


def test_payload_in_order_is_handed_on_without_a_copy() -> None:
    """The rows delivered are views of the batch."""
    seen: list[bool] = []
    _, rows = _rows(list(range(64)), MSS)
    window = ReceiveWindow(MSS, 100, lambda payload: seen.append(np.shares_memory(payload, rows)))
    assert window.take(Pushes(0, 63, 0, rows)) == (None, False, False)
    window.insert(np.arange(62, 66), rows[:4])
    assert seen == [True, True]


@pytest.mark.parametrize("limit", [256, 257, 5_000])
def test_memory_grows_with_early_segments_only(limit: int) -> None:
    sink = Sink()
    window = ReceiveWindow(MSS, limit, sink)
    for first in range(0, 512, 64):
        window.insert(*_rows([*range(first, first + 64)], MSS))
    assert window._capacity == 0
    early = [*range(513, 512 + limit)]
    window.insert(*_rows(early, MSS))
    assert window.stored == len(early)
    window.insert(*_rows([512], MSS))
    assert sink.data == b"".join(_payload(number, MSS) for number in range(512 + limit))


@pytest.mark.parametrize("step", [1, 2])
def test_memory_follows_the_segments_and_not_the_window_times_the_largest_one(step: int) -> None:
    """One byte in each segment, all above a gap, for the widest window and the largest datagrams."""
    window = ReceiveWindow(65_507 - 24, 65_535)
    numbers = np.arange(1, 65_535, step)
    window.insert(numbers, np.zeros((len(numbers), 1), np.uint8))
    assert window.stored == len(numbers)
    assert window.memory_bytes <= 2 * 65_536


@pytest.mark.parametrize("size", [1, 1000])
def test_payload_is_kept_byte_by_byte_if_it_is_handed_on(size: int) -> None:
    window = ReceiveWindow(65_507 - 24, 65_535, Sink())
    numbers = np.arange(1, 5_000, 2)
    window.insert(numbers, np.zeros((len(numbers), size), np.uint8))
    assert window.memory_bytes <= 2 * 8192 + size * len(numbers)
    window.insert(np.arange(0, 5_000, 2), np.zeros((2_500, size), np.uint8))
    assert (window.stored, window.bytes) == (0, size * 5_000)
    assert window.memory_bytes <= 2 * 8192


def test_the_largest_segment_is_counted() -> None:
    window = ReceiveWindow(65_483, 10)
    window.insert(np.array([1]), np.zeros((1, 65_483), np.uint8))
    window.insert(np.array([2]), np.zeros((1, 0), np.uint8))
    window.insert(np.array([0]), np.zeros((1, 1), np.uint8))
    assert (window.bytes, window.segments, window.stored) == (65_484, 3, 0)


@pytest.mark.parametrize("sizes", [[1], [0, 1, MSS, MSS + 1]])
def test_segments_one_by_one_and_in_batches_leave_the_same_window(sizes: list[int]) -> None:
    random = np.random.default_rng(1)
    one, batched = (ReceiveWindow(MSS, 300, Sink()) for _ in range(2))
    for at in range(3000):
        number, size = one.nxt + int(random.integers(-3, 310)) // 2, sizes[at % len(sizes)]
        numbers, rows = _rows([number], size)
        single = one.take(Pushes(number, number, 0, rows)).accepted
        array = batched.insert(numbers, rows)
        assert bool(array[0]) == (single is None or bool(single[0]))
        state = ("nxt", "high", "stored", "bytes", "segments", "duplicates", "refused", "stored_bytes")
        assert [getattr(one, name) for name in state] == [getattr(batched, name) for name in state]


@pytest.mark.parametrize("at_once", [1, 7])
def test_payload_above_a_gap_that_is_handed_on_is_bounded(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """The peer chooses gap and window, and must not choose the memory; what closes the gap is taken."""
    monkeypatch.setattr(receive_window, "MOST_STORED_BYTES", 10 * 100)
    got = bytearray()
    window = ReceiveWindow(1_000, 1_000, lambda payload: got.extend(payload.tobytes()))
    for first in range(1, 29, at_once):
        last = first + at_once - 1
        rows = np.full((at_once, 100), first, np.uint8)
        window.take(Pushes(first, last, 0, rows, np.arange(first, last + 1), frg=0))
    assert window.stored == 10
    assert window.refused == 18
    window.take(Pushes(0, 0, 0, np.zeros((1, 100), np.uint8)))
    assert len(got) == 11 * 100
    assert window.memory_bytes < 10_000
    window.take(Pushes(12, 12, 0, np.zeros((1, 100), np.uint8)))  # there is room again
    assert window.stored == 1
