"""The gate before every report: losses at the end, counts that contradict each other, results of nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Counters, Side
from iperfpy.protocols.registry import transport
from iperfpy.records import Row, Sample
from iperfpy.sampling.result_gate import Ended, Totals, Verdict, judge
from iperfpy.sampling.sums import total

UDP, TCP = transport("udp"), transport("tcp")
SECOND_US = 1_000_000


def plan(**changes: Any) -> Plan:
    return replace(Plan("udp", UDP.settings(), duration_us=4 * SECOND_US, block_bytes=1400), **changes)


AMOUNT = plan(duration_us=0, total_bytes=10_000)


def udp_row(
    sent: int | None,
    known: int,
    lost: int,
    *,
    repeated: int = 0,
    stream: int = 1,
    direction: Direction = Direction.FORWARD,
    received_us: int = 4 * SECOND_US,
) -> Row:
    arrived = known - lost
    receiver = Sample(
        *(stream, Side.RECEIVER, 0, received_us, arrived * 1400),
        {
            "datagrams_numbered": known,
            "lost_datagrams": lost,
            "datagrams_received": arrived + repeated,
            "duplicate_datagrams": repeated,
            "late_datagrams": 0,
            "loss_percent": 100 * lost / known if known else None,
        },
    )
    values: dict[str, Any] = {"datagrams_sent": sent}
    sender = Sample(stream, Side.SENDER, 0, 4 * SECOND_US, (sent or 0) * 1400, values)
    return Row(stream, sender, receiver, direction)


def tcp_row(sent: int, received: int, *, stream: int = 1, received_us: int = 4 * SECOND_US) -> Row:
    sender = Sample(stream, Side.SENDER, 0, 4 * SECOND_US, sent)
    return Row(stream, sender, Sample(stream, Side.RECEIVER, 0, received_us, received))


def verdict(
    *rows: Row,
    of: Transport = UDP,
    on: Plan | None = None,
    ended: Ended = Ended.PLANNED,
    omitted: Mapping[tuple[int, Side], Counters] | None = None,
    compared: bool = True,
) -> Verdict:
    ids = {row.stream for row in rows} if compared else set()
    return judge(Totals(rows, omitted or {}, ids), on or plan(), of, ended)


def losses(row: Row) -> tuple[Any, ...]:
    receiver = row.of(Side.RECEIVER)
    assert receiver is not None
    return tuple(receiver.values[key] for key in ("lost_datagrams", "datagrams_numbered", "loss_percent"))


# -- losses after the last arrival


@pytest.mark.parametrize("ended", [Ended.INTERRUPTED, Ended.FAILED])
def test_without_results_the_ends_are_not_compared(ended: Ended) -> None:
    """The peer's figures end with its last interval: what this end has counted since is no loss."""
    row = verdict(udp_row(179, 90, 0, received_us=1 * SECOND_US), ended=ended).rows[0]
    assert losses(row) == (0, 90, 0)
    for known in (row, total([row], UDP.metrics)):
        assert known.local.values["path_loss_percent"] is None


def test_datagrams_after_the_last_arrival_are_lost() -> None:
    judged = verdict(udp_row(358, 123, 0))
    lost, known, percent = losses(judged.rows[0])
    assert (lost, known, percent) == (235, 358, pytest.approx(65.64, abs=0.01))
    assert judged.rows[0].local.values["path_loss_percent"] == pytest.approx(percent)
    assert judged.warnings == ("stream 1: the last 235 of 358 datagrams did not arrive: did the path die?",)
    assert not judged.failure


def test_one_lost_datagram_at_the_end_needs_no_warning() -> None:
    judged = verdict(udp_row(358, 357, 3))
    assert losses(judged.rows[0])[:2] == (4, 358)
    assert judged.warnings == ()


def test_a_test_in_which_no_datagram_arrived_fails() -> None:
    judged = verdict(udp_row(179, 0, 0))
    assert losses(judged.rows[0]) == (179, 179, 100)
    assert judged.failure == (
        "stream 1: none of the 179 datagrams that the client sent arrived at the server:"
        " a firewall or the path drops them (try a shorter -l)"
    )


def test_one_silent_stream_of_two_fails() -> None:
    judged = verdict(udp_row(100, 100, 0), udp_row(100, 0, 0, stream=3, direction=Direction.REVERSE))
    assert judged.failure.startswith("stream 3: none of the 100 datagrams that the server sent")


def test_duplicates_do_not_make_up_for_losses() -> None:
    judged = verdict(udp_row(100, 90, 10, repeated=50))
    assert losses(judged.rows[0]) == (20, 100, 20)
    assert judged.rows[0].local.values["path_loss_percent"] == pytest.approx(20)


def test_the_omitted_period_ends_at_different_datagrams_at_both_ends() -> None:
    """The sender begins to measure at its datagram 100, the receiver when number 90 has arrived."""
    omitted = {(1, Side.SENDER): {"datagrams_sent": 100}, (1, Side.RECEIVER): {"datagrams_numbered": 90}}
    judged = verdict(udp_row(300, 305, 0), omitted=omitted)
    assert losses(judged.rows[0])[:2] == (5, 310)
    assert losses(verdict(udp_row(300, 310, 0), omitted=omitted).rows[0])[:2] == (0, 310)


def test_no_more_is_lost_than_was_sent_in_the_measured_period() -> None:
    omitted = {(1, Side.SENDER): {"datagrams_sent": 100}, (1, Side.RECEIVER): {"datagrams_numbered": 40}}
    assert losses(verdict(udp_row(50, 0, 0), omitted=omitted).rows[0]) == (50, 50, 100)


@pytest.mark.parametrize(
    ("arrived", "counted_before", "lost"),
    [(296, 104, 0.0), (290, 104, 2.0), (296, 90, 4 / 3), (304, 96, 0.0), (250, 100, 50 / 3)],
)
def test_the_loss_of_kcp_is_not_that_of_the_boundary(arrived: int, counted_before: int, lost: float) -> None:
    """The sender has sent 100 datagrams when its omitted period ends, and 300 later."""
    sender = Sample(1, Side.SENDER, 0, 4 * SECOND_US, 400_000, {"datagrams_sent": 300})
    receiver = Sample(1, Side.RECEIVER, 0, 4 * SECOND_US, 400_000, {"datagrams_received": arrived})
    omitted = {
        (1, Side.SENDER): {"datagrams_sent": 100},
        (1, Side.RECEIVER): {"datagrams_received": counted_before},
    }
    judged = verdict(Row(1, sender, receiver), of=transport("kcp"), omitted=omitted)
    assert judged.rows[0].local.values["path_loss_percent"] == pytest.approx(lost)
    whole = total(judged.rows, transport("kcp").metrics).local
    assert whole.values["path_loss_percent"] == pytest.approx(lost)


def test_a_receiver_that_stopped_earlier_is_not_compared() -> None:
    judged = verdict(udp_row(358, 123, 0), compared=False)
    assert losses(judged.rows[0])[:2] == (0, 123)
    assert "235 of 358 datagrams are in no figure of the server" in judged.warnings[0]


def test_a_receiver_that_knows_of_nothing_is_compared_whenever_it_stopped() -> None:
    assert losses(verdict(udp_row(90, 0, 0), compared=False).rows[0]) == (90, 90, 100)


def test_an_interrupted_test_is_not_compared() -> None:
    judged = verdict(udp_row(358, 123, 0), ended=Ended.INTERRUPTED)
    assert losses(judged.rows[0])[:2] == (0, 123)
    assert (judged.warnings, judged.failure) == ((), "")


# -- counts that contradict each other


def test_more_received_than_sent_is_said() -> None:
    judged = verdict(udp_row(100, 120, 0))
    assert judged.warnings == (
        "stream 1: the server counted 120 datagrams, more than the 100 that the client sent: their counts do"
        " not fit together",
    )


def test_more_bytes_than_the_sender_knew_of_are_said() -> None:
    assert (
        "received 5,000,000 bytes, the client knew of 0" in verdict(tcp_row(0, 5_000_000), of=TCP).warnings[0]
    )
    assert verdict(tcp_row(20_000_000, 20_400_000), of=TCP).warnings == ()


# -- results of nothing


def test_a_stream_without_a_byte_fails() -> None:
    assert verdict(tcp_row(5, 0), of=TCP).failure == "stream 1: no payload arrived at the server"
    assert verdict(tcp_row(5, 0), of=TCP, ended=Ended.INTERRUPTED).failure
    assert not verdict(tcp_row(5, 0), of=TCP, ended=Ended.FAILED).failure


def test_a_peer_that_reports_nothing_of_a_stream_fails() -> None:
    row = Row(1, tcp_row(5, 5).local)
    assert verdict(row, of=TCP).failure == "the server reported nothing of stream 1"
    assert not verdict(row, of=TCP, ended=Ended.INTERRUPTED).failure


def test_a_stream_gets_no_share_of_a_small_amount() -> None:
    assert not verdict(tcp_row(5, 5), tcp_row(0, 0, stream=3), of=TCP, on=AMOUNT).failure
    assert verdict(tcp_row(5, 5), tcp_row(0, 0, stream=3), of=TCP).failure
    assert verdict(tcp_row(0, 0), tcp_row(0, 0, stream=3), of=TCP, on=AMOUNT).failure


def test_a_time_that_is_too_short_for_a_rate_fails() -> None:
    judged = verdict(tcp_row(5, 2_900_000, received_us=1200), of=TCP)
    assert judged.failure == (
        "stream 1: the server received for 0.0012 s, too short for a rate: choose a -t of at least 0.01 s"
    )
    received = judged.rows[0].of(Side.RECEIVER)
    assert received is not None
    assert received.bits_per_second is None


def test_a_planned_time_that_is_too_short_for_a_rate_fails() -> None:
    """An end that was busy may stop a little later, and seem to have measured something."""
    assert verdict(udp_row(1, 1, 0), on=plan(duration_us=1000)).failure == (
        "the test was to last 0.001 s, too short for a rate: choose a -t of at least 0.01 s"
    )


def test_a_fixed_amount_needs_no_rate() -> None:
    assert not verdict(tcp_row(5, 5, received_us=0), of=TCP, on=AMOUNT).failure


def test_a_polled_gauge_of_the_whole_test_is_its_mean() -> None:
    values = {"rtt_us": 900, "rtt_us_min": 10, "rtt_us_mean": 20.0, "rtt_us_max": 900}
    row = Row(1, Sample(1, Side.SENDER, 0, SECOND_US, 5, values), tcp_row(5, 5).peer)
    assert verdict(row, of=TCP).rows[0].local.values["rtt_us"] == 20.0


# -- whatever the counters


counts = st.integers(0, 10**6)
samples = st.builds(
    Sample,
    st.just(1),
    st.just(Side.RECEIVER),
    st.just(0),
    st.sampled_from([0, 1, 9_999, 10_000, SECOND_US]),
    counts,
    st.fixed_dictionaries(
        {
            key: counts | st.none()
            for key in ("datagrams_numbered", "lost_datagrams", "datagrams_received", "duplicate_datagrams")
        }
    ),
)
senders = st.builds(
    Sample,
    st.just(1),
    st.just(Side.SENDER),
    st.just(0),
    st.sampled_from([0, 1, SECOND_US]),
    counts,
    st.fixed_dictionaries({"datagrams_sent": counts | st.none()}),
)


@given(
    sender=senders | st.none(),
    receiver=samples | st.none(),
    local_sends=st.booleans(),
    of=st.sampled_from([UDP, TCP]),
    on=st.sampled_from([plan(), AMOUNT, plan(duration_us=0)]),
    ended=st.sampled_from(Ended),
    omitted=st.fixed_dictionaries({"datagrams_sent": counts, "datagrams_numbered": counts}),
    compared=st.booleans(),
)
def test_whatever_the_counters_the_result_is_true(
    sender: Sample | None,
    receiver: Sample | None,
    local_sends: bool,
    of: Transport,
    on: Plan,
    ended: Ended,
    omitted: Mapping[str, int],
    compared: bool,
) -> None:
    local, peer = (sender, receiver) if local_sends else (receiver, sender)
    if local is None:
        return
    both = {(1, Side.SENDER): omitted, (1, Side.RECEIVER): omitted}
    judged = verdict(Row(1, local, peer), of=of, on=on, ended=ended, omitted=both, compared=compared)
    (row,) = judged.rows
    shown = row.of(Side.RECEIVER)
    for sample in (row.local, row.peer):
        if sample is not None and sample.end_us - sample.start_us < 10_000:
            assert sample.bits_per_second is None
    if ended is Ended.FAILED:
        return
    if shown is None:
        assert bool(judged.failure) is (ended is Ended.PLANNED)
        return
    arrived = shown.bytes or (of is UDP and shown.values["datagrams_received"])
    assert arrived or judged.failure
    for key in ("lost_datagrams", "loss_percent", "path_loss_percent"):
        lost = shown.values.get(key)
        assert lost is None or (isinstance(lost, int | float) and lost >= 0 and math.isfinite(lost))
    if of is UDP and ended is Ended.PLANNED and compared and sender is not None:
        sent, known = sender.values["datagrams_sent"], shown.values["datagrams_numbered"]
        if isinstance(sent, int) and isinstance(known, int):
            # The omitted period ends at different datagrams at both ends: counts since the opening compare.
            missing = sent + omitted["datagrams_sent"] - known - omitted["datagrams_numbered"]
            assert missing == 0 or judged.warnings or (missing > 0 and known >= sent)
