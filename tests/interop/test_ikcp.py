"""Our engine against the C library, in virtual time, with loss in each direction; a hash covers every
byte."""

from __future__ import annotations

import pytest

from tests.interop.ikcp_exchange import CONV, RECOVERIES, Exchange

pytestmark = pytest.mark.interop

TOTAL = 2_500_000


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_the_c_library_receives_all_data_of_the_engine(recovery: str) -> None:
    result = Exchange(recovery, up=TOTAL, seed=3).run()
    assert result.intact
    assert result.bytes == TOTAL
    counts = result.ours.counts
    assert result.lost > 50
    assert counts.lost + counts.early + counts.fast >= 50
    assert counts.foreign == 0
    assert 19_900 <= result.ours.rtt.minimum_us <= 32_000  # 10 ms each way, and its tick


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_the_engine_receives_all_data_of_the_c_library(recovery: str) -> None:
    """The C library in message mode counts fragments down; our engine treats them as a stream."""
    result = Exchange(recovery, down=TOTAL, seed=4, trace=20).run()
    assert result.intact
    assert result.bytes == TOTAL
    assert result.ours.counts.foreign == 0
    assert result.ours.receiving.refused == 0
    assert any("frg=11" in line for _, line in result.traces[1].lines)


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_data_is_exchanged_in_both_directions_at_once(recovery: str) -> None:
    """In this case acknowledgements and data share datagrams."""
    result = Exchange(recovery, up=TOTAL // 2, down=TOTAL // 2, seed=5).run()
    assert result.intact
    assert result.bytes == TOTAL
    assert result.ours.counts.foreign == 0


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_a_transfer_survives_the_wrap_of_time_stamps(recovery: str) -> None:
    """Microsecond stamps pass 2^32 within the transfer; the C library only echoes them."""
    result = Exchange(recovery, up=TOTAL // 2, seed=6, start_us=(1 << 32) - 100_000).run()
    assert result.intact
    assert result.duration_us > 100_000
    assert 19_900 <= result.ours.rtt.minimum_us <= 32_000  # 10 ms each way, and its tick


@pytest.mark.parametrize("message_bytes", [1, 1_376, 100_000])
def test_messages_of_any_size_arrive(message_bytes: int) -> None:
    """One byte to a segment, a segment exactly, 73 fragments."""
    total = min(TOTAL // 2, 3_000 * message_bytes)
    result = Exchange("stock", down=total, seed=7, message_bytes=message_bytes).run()
    assert result.intact
    assert result.bytes == total


def test_an_exchange_completes_at_thirty_percent_loss() -> None:
    result = Exchange("rack", up=600_000, seed=8, loss=0.3).run()
    assert result.intact


def test_data_of_another_conversation_is_rejected() -> None:
    """The C library's answer to data with a foreign conv is to refuse it; ours is to count it."""
    exchange = Exchange("stock", down=50_000, seed=9, loss=0.0)
    exchange.ours.receive([(CONV + 1).to_bytes(4, "little") + bytes(20)], 0)
    result = exchange.run()
    assert result.intact
    assert result.ours.counts.foreign == 1
