"""Links with frames of Ethernet as rows: the header is no part of the sizes on the path."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.simulator import CoDel, Link, Path
from iperfpy.protocols.simulator.inbox import Inbox
from iperfpy.protocols.simulator.truth import Truth

HEADER, PACKET = 14, 1_000
MBIT = 8.0  # one packet takes a millisecond


def carried(path: Path, count: int, until_us: float = 1e9) -> tuple[Truth, list[float]]:
    """Send `count` frames at once; their counts, and their arrivals in microseconds."""
    link, inbox, truth = Link(path, np.random.SeedSequence(1), overhead_bytes=-HEADER), Inbox(0.0), Truth()
    rows = np.zeros((count, PACKET + HEADER), np.uint8)
    rows[:, 0] = np.arange(count)
    link.carry_rows(0.0, rows, inbox, truth, 0.0)
    rows[:] = 255  # the caller's array may change
    link.serve(until_us)
    pieces = inbox.take_rows(until_us)
    assert [row for _, rows in pieces for row in rows[:, 0].tolist()] == list(range(truth.delivered))
    return truth, [exit_us for exits, _ in pieces for exit_us in exits.tolist()]


@pytest.mark.parametrize("codel", [None, CoDel()])
def test_the_serialiser_sends_the_packet_without_the_header(codel: CoDel | None) -> None:
    truth, arrivals = carried(Path(rate_bits_per_s=MBIT * 1e6, codel=codel), 3)
    assert arrivals == [1_000.0, 2_000.0, 3_000.0]
    assert truth.sent_bytes == 3 * (PACKET + HEADER)


def test_the_queue_and_the_policer_count_packets_without_the_header() -> None:
    queue = Path(rate_bits_per_s=MBIT * 1e6, buffer_bytes=2 * PACKET)
    assert carried(queue, 5)[0].overflowed == 3
    policer = Path(police_bits_per_s=1.0, bucket_bytes=2 * PACKET)
    assert carried(policer, 5)[0].policed == 3


def test_the_longest_datagram_is_measured_as_a_packet() -> None:
    """`maxlen` of a path is a payload with headers of 28 bytes around it."""
    assert carried(Path(maxlen=PACKET - 28), 1)[0].too_long == 0
    assert carried(Path(maxlen=PACKET - 29), 1)[0].too_long == 1
