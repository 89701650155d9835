"""Sums over streams and merges over time: counters are added, ratios recomputed, gauges combined by unit."""

from __future__ import annotations

import pytest

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit, Value
from iperfpy.records import Row, Sample
from iperfpy.sampling.sums import across, by_direction, merge, total

METRICS = (
    Metric("rtt_us", "", Unit.MICROSECONDS, Kind.GAUGE, spread=True),
    Metric("retransmits", ""),
    Metric("sent", ""),
    Metric("retrans_percent", "", Unit.PERCENT, Kind.RATIO, numerator="retransmits", denominator="sent"),
    Metric("pacing", "", Unit.BITS_PER_SECOND, Kind.GAUGE),
    Metric("window_bytes", "", Unit.BYTES, Kind.GAUGE),
    Metric("congestion", "", Unit.TEXT, Kind.GAUGE),
    Metric("duplicates", "", side=Side.RECEIVER),
)


def sent(stream: int, payload: int, start_us: int = 0, end_us: int = 1_000_000, **values: Value) -> Sample:
    return Sample(stream, Side.SENDER, start_us, end_us, payload, values)


def spread(low: float, mean: float, high: float) -> dict[str, Value]:
    return {"rtt_us": mean, "rtt_us_min": low, "rtt_us_mean": mean, "rtt_us_max": high}


def sum_of(*samples: Sample) -> Sample:
    return total([Row(sample.stream, sample) for sample in samples], METRICS).local


def test_a_ratio_of_a_sum_is_not_a_mean_of_ratios() -> None:
    whole = sum_of(
        sent(1, 100, retransmits=1, sent=10, retrans_percent=10.0),
        sent(3, 900, retransmits=1, sent=90, retrans_percent=1.11),
    )
    assert (whole.stream, whole.bytes, whole.values["retransmits"]) == (0, 1000, 2)
    assert whole.values["retrans_percent"] == pytest.approx(2.0)


def test_gauges_of_streams_are_combined_by_their_unit() -> None:
    whole = sum_of(
        sent(1, 1, 0, 10**6, pacing=1e6, window_bytes=10, congestion="bbr", **spread(10, 20, 30)),
        sent(3, 1, 0, 10**6, pacing=3e6, window_bytes=10, congestion="bbr", **spread(5, 40, 60)),
    ).values
    assert (whole["rtt_us"], whole["rtt_us_min"], whole["rtt_us_mean"], whole["rtt_us_max"]) == (
        30,
        5,
        30,
        60,
    )
    assert whole["pacing"] == 4e6
    assert whole["window_bytes"] is None
    assert whole["congestion"] == "bbr"


def test_a_counter_that_one_stream_lacks_has_no_sum() -> None:
    whole = sum_of(sent(1, 1, retransmits=4, sent=10), sent(3, 1, retransmits=None, sent=10)).values
    assert whole["retransmits"] is None
    assert whole["retrans_percent"] is None


def test_a_sum_spans_all_its_streams() -> None:
    whole = sum_of(sent(1, 1_000_000, 0, 1_000_000), sent(3, 1_000_000, 100, 2_000_000))
    assert (whole.start_us, whole.end_us) == (0, 2_000_000)
    assert whole.bits_per_second == 8e6


def test_the_peer_is_summed_only_if_every_stream_has_its_sample() -> None:
    here = [sent(1, 10), sent(3, 10)]
    there = [Sample(s.stream, Side.RECEIVER, 0, 1_000_000, 9, {"duplicates": 2}) for s in here]
    both = total([Row(s.stream, s, peer) for s, peer in zip(here, there, strict=True)], METRICS)
    received = both.of(Side.RECEIVER)
    assert received is not None
    assert (received.bytes, received.values) == (18, {"duplicates": 4})
    assert total([Row(1, here[0], there[0]), Row(3, here[1])], METRICS).peer is None


def test_directions_are_summed_apart() -> None:
    rows = [Row(1, sent(1, 1)), Row(3, sent(3, 1), direction=Direction.REVERSE), Row(4, sent(4, 1))]
    assert [[row.stream for row in group] for group in by_direction(rows)] == [[1, 4], [3]]


def test_a_sum_of_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        total([])


def test_a_runt_is_merged_into_the_interval_before_it() -> None:
    joined = merge(
        sent(1, 1000, 0, 900_000, retransmits=1, sent=9, **spread(10, 20, 30)),
        sent(1, 100, 900_000, 1_000_000, retransmits=1, sent=1, **spread(15, 120, 200)),
        METRICS,
    )
    assert (joined.start_us, joined.end_us, joined.bytes) == (0, 1_000_000, 1100)
    assert (joined.values["retransmits"], joined.values["retrans_percent"]) == (2, 20.0)
    assert (joined.values["rtt_us"], joined.values["rtt_us_min"], joined.values["rtt_us_max"]) == (
        120,
        10,
        200,
    )
    assert joined.values["rtt_us_mean"] == pytest.approx(30.0)


ACROSS = (
    Metric("datagrams_sent", ""),
    Metric("retransmits", ""),
    Metric("datagrams_received", "", side=Side.RECEIVER),
    Metric("duplicates", "", side=Side.RECEIVER),
    Metric(
        "path_loss_percent",
        "",
        Unit.PERCENT,
        Kind.MISSING,
        numerator="datagrams_received",
        denominator="datagrams_sent",
    ),
    Metric(
        "again_percent",
        "",
        Unit.PERCENT,
        Kind.ACROSS,
        Side.RECEIVER,
        numerator="duplicates",
        denominator="retransmits",
    ),
)


def both_ends(
    stream: int, datagrams: int, retransmits: int, received: int, duplicates: int, *, here: Side
) -> Row:
    sender = sent(stream, 1, datagrams_sent=datagrams, retransmits=retransmits)
    values = {"datagrams_received": received, "duplicates": duplicates}
    receiver = Sample(stream, Side.RECEIVER, 0, 1_000_000, 1, values)
    return Row(stream, sender, receiver) if here is Side.SENDER else Row(stream, receiver, sender)


@pytest.mark.parametrize("here", Side)
def test_a_figure_of_both_ends_is_the_same_at_each(here: Side) -> None:
    row = across(both_ends(1, 200, 8, 190, 2, here=here), ACROSS)
    sender, receiver = row.of(Side.SENDER), row.of(Side.RECEIVER)
    assert row.local.side is here
    assert sender is not None
    assert receiver is not None
    assert sender.values["path_loss_percent"] == pytest.approx(5.0)
    assert receiver.values["again_percent"] == pytest.approx(25.0)
    assert "again_percent" not in sender.values


def test_a_figure_of_both_ends_needs_both() -> None:
    alone = Row(1, sent(1, 1, datagrams_sent=5))
    assert across(alone, ACROSS) == alone
    without_datagrams = across(both_ends(1, 0, 0, 0, 0, here=Side.SENDER), ACROSS)
    assert without_datagrams.local.values["path_loss_percent"] is None


def test_more_arrivals_than_transmissions_in_an_interval_are_no_loss() -> None:
    row = across(both_ends(1, 100, 0, 103, 0, here=Side.SENDER), ACROSS)
    assert row.local.values["path_loss_percent"] == 0.0


def test_path_loss_of_a_sum_is_computed_from_the_summed_counters() -> None:
    rows = [both_ends(1, 100, 0, 100, 0, here=Side.SENDER), both_ends(3, 300, 4, 260, 1, here=Side.SENDER)]
    assert total(rows, ACROSS).local.values["path_loss_percent"] == pytest.approx(10.0)
