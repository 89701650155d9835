"""The sentences of a transport: a notice stands in the first interval that asks for it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from iperfpy.endpoint.transport_sentences import TransportSentences
from iperfpy.errors import IperfpyError
from iperfpy.protocols.kcp import Kcp
from iperfpy.protocols.metrics import Side, Value
from iperfpy.records import Row, Sample


def row(size: int, stream: int = 1) -> Row:
    values: dict[str, Value] = {"mtu_start_bytes": 1400, "mtu_bytes": size, "rtt_us": 200.0}
    return Row(stream, Sample(stream, Side.SENDER, 0, 1_000_000, 9, values))


def test_a_notice_stands_in_the_first_interval_that_asks_for_it() -> None:
    sentences = TransportSentences(Kcp())
    sizes = (1400, 1252, 1252, 1000)
    noticed = [sentences.noticed(row(size)).notices for size in sizes]
    assert [len(each) for each in noticed] == [0, 1, 0, 1]
    assert "1,252 bytes are used" in noticed[1][0]
    # Streams share a path; the end of the test has all sentences again.
    assert sentences.noticed(row(1000, stream=3)).notices == ()
    assert sentences.of_test([row(1252), row(1252, stream=3)]) == noticed[1]


def test_a_fault_of_the_transport_costs_no_row_and_is_raised_later() -> None:
    class Faulty(Kcp):
        asked = 0

        def notices(self, sender: Mapping[str, Value]) -> tuple[str, ...]:
            Faulty.asked += 1
            raise KeyError("size")

    sentences = TransportSentences(Faulty())
    sentences.raise_fault()
    assert sentences.noticed(row(1252)) == row(1252)
    assert sentences.noticed(row(1252)) == row(1252)
    assert Faulty.asked == 1
    with pytest.raises(IperfpyError, match="kcp"):
        sentences.raise_fault()
    with pytest.raises(IperfpyError, match="kcp"):
        sentences.of_test([row(1252)])
