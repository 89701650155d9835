"""Our stock KCP behaves like kcp-go: see equivalence.py for the chain of comparisons, and for the table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import pytest

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.settings import MODES, Tuning
from tests.peers.stock_kcp_go import IKCP
from tests.protocols.kcp.equivalence import (
    CASES,
    COMPARED,
    LONG,
    LOSSES,
    RECHECKED,
    SHORT,
    Compared,
    End,
    Route,
    between,
    c_library,
    connect,
    model,
    ours,
)

pytestmark = [pytest.mark.interop, pytest.mark.slow]

WITHIN = 0.1


class Recorded:
    """An end, and a digest of every datagram that left it, with the time."""

    def __init__(self, end: End) -> None:
        self.end, self.left = end, 0
        self._digest = hashlib.sha256()

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        self.end.receive(batch, now_us)

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        out = self.end.transmit(now_us)
        for batch in out:
            for datagram in batch:
                self._digest.update(b"%d:%d:" % (now_us, len(datagram)) + datagram.tobytes())
                self.left += 1
        return out

    def deadline_us(self) -> int | None:
        return self.end.deadline_us()

    def writable(self) -> int:
        return self.end.writable()

    def write(self, data: memoryview, now_us: int) -> int:
        return self.end.write(data, now_us)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mode", COMPARED)
@pytest.mark.parametrize("route", [SHORT, LONG], ids=["short", "long"])
def test_the_model_sends_the_bytes_of_the_c_library(route: Route, mode: str, loss: float) -> None:
    """Both send the same bytes at the same microsecond, in both directions."""
    digests = []
    for make in (c_library, model(IKCP)):
        ends = tuple(Recorded(make(MODES[mode], route.window)) for _ in range(2))
        connect((ends[0], ends[1]), route, loss, seed=7).run(4_000_000)
        assert min(end.left for end in ends) > 80
        digests.append([end.digest for end in ends])
    assert digests[0] == digests[1]


def test_the_digest_differs_after_a_shift_of_one_millisecond() -> None:
    """An interval that differs by a millisecond gives other bytes or times."""
    digests = set()
    for tuning in (MODES["normal"], MODES["normal"]._replace(interval=41)):
        ends = Recorded(c_library(tuning, 32)), Recorded(c_library(tuning, 32))
        connect(ends, SHORT, 0.05, seed=7).run(1_000_000)
        digests.add(ends[0].digest)
    assert len(digests) == 2


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.mode}-{case.loss}")
def test_the_stock_engine_performs_as_kcp_go(case: Compared) -> None:
    """Goodput and retransmissions within 10 %, four seeds together. equivalence.py prints all cases."""
    theirs, mine = case.reference(), case.figures("ours")
    assert theirs.segments > (9_000 if case.loss else 2_500)
    assert bool(theirs.resent) == bool(case.loss)
    assert mine.delivered_bytes == pytest.approx(theirs.delivered_bytes, rel=WITHIN)
    assert mine.resent == pytest.approx(theirs.resent, rel=WITHIN)


def test_the_recorded_figures_are_those_of_the_model_and_the_simulator() -> None:
    """Accept a change by: python -m tests.protocols.kcp.equivalence --reference"""
    assert RECHECKED.figures("model, kcp-go") == RECHECKED.reference()


@pytest.mark.parametrize("changed", [{"nodelay": 1, "interval": 10}, {"interval": 160}])
def test_a_tolerance_of_ten_per_cent_excludes_other_tunings(changed: dict[str, int]) -> None:
    """The comparison fails if one parameter of the tuning is changed."""
    tuning = MODES["normal"]
    unchanged, changed_tuning = _delivered(tuning), _delivered(tuning._replace(**changed))
    assert changed_tuning != pytest.approx(unchanged, rel=WITHIN)


@cache
def _delivered(tuning: Tuning) -> int:
    """Bytes that our engine delivers with a tuning."""
    ends = [ours(tuning, SHORT.window) for _ in range(2)]
    return between(ends[0], ends[1], SHORT, 0.05, seed=1, seconds=4.0).delivered_bytes
