"""Results in iperf3's format, interval figures in the extension's, and refusal of impossible values."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from iperfpy.control.results import (
    LONGEST_WARNING,
    MOST_WARNINGS,
    Stats,
    decode_results,
    decode_sample,
    decode_stats,
    encode_results,
    encode_sample,
    encode_stats,
    omitted_counts,
)
from iperfpy.errors import ProtocolError
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit
from iperfpy.records import Sample, ServerOutput
from tests.iperfpy.control.test_parameters import Known


class Measured(Known):
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("again", "retransmissions", iperf3="retransmits"),
        Metric("rtt_us", "RTT", Unit.MICROSECONDS, Kind.GAUGE, spread=True),
        Metric("congestion", "algorithm", Unit.TEXT, Kind.GAUGE),
        Metric("jitter_ms", "jitter", side=Side.RECEIVER, kind=Kind.GAUGE, iperf3="jitter_ms"),
        Metric("gone", "lost", side=Side.RECEIVER, iperf3="lost_packets"),
    )


class Numbered(Measured):
    metrics: ClassVar[tuple[Metric, ...]] = (
        *Measured.metrics,
        Metric("seen", "numbered", side=Side.RECEIVER, iperf3="packets"),
    )


TRANSPORT = Measured()
CPU = {"host_total": 12.5, "host_user": 2.5, "host_system": 10.0}
SENT = Sample(1, Side.SENDER, 0, 2_000_000, 1000, {"again": 7, "rtt_us": 900, "congestion": "bbr"})
GOT = Sample(3, Side.RECEIVER, 0, 1_500_000, 900, {"jitter_ms": 0.5, "gone": 3})
SIDES = {1: Side.SENDER, 3: Side.RECEIVER}


def test_a_senders_results_have_iperf3s_keys() -> None:
    body = encode_results(TRANSPORT, [SENT], CPU, "bbr", extended=False)
    # iperf3 reads the datagram counts of every stream, even of TCP.
    assert body == {
        "cpu_util_total": 12.5,
        "cpu_util_user": 2.5,
        "cpu_util_system": 10.0,
        "sender_has_retransmits": 1,
        "congestion_used": "bbr",
        "streams": [
            {
                "id": 1,
                "bytes": 1000,
                "retransmits": 7,
                "jitter": 0,
                "errors": 0,
                "packets": 0,
                "omitted_errors": 0,
                "omitted_packets": 0,
                "start_time": 0,
                "end_time": 2.0,
            }
        ],
    }


def test_a_receivers_results_carry_losses_and_jitter() -> None:
    body = encode_results(TRANSPORT, [GOT], CPU, extended=False)
    assert body["sender_has_retransmits"] == -1
    assert "congestion_used" not in body
    stream = body["streams"][0]
    assert (stream["retransmits"], stream["errors"], stream["jitter"]) == (-1, 3, 0.0005)


def test_a_sender_without_a_retransmission_count_reports_minus_one() -> None:
    sample = Sample(1, Side.SENDER, 0, 1, 0, {"again": None})
    body = encode_results(TRANSPORT, [sample], {}, extended=False)
    assert body["sender_has_retransmits"] == 0
    assert body["streams"][0]["retransmits"] == -1


@pytest.mark.parametrize("extended", [False, True])
def test_results_round_trip(extended: bool) -> None:
    body = encode_results(TRANSPORT, [SENT, GOT], CPU, "bbr", extended=extended)
    results = decode_results(body, TRANSPORT, SIDES, "the server")
    assert results.cpu_percent == {"total": 12.5, "user": 2.5, "system": 10.0}
    assert results.congestion == "bbr"
    assert results.samples[1].bytes == 1000
    assert results.samples[1].values["again"] == 7
    assert results.samples[1].seconds == 2.0
    assert results.samples[3].values["jitter_ms"] == pytest.approx(0.5)
    if extended:
        assert results.samples == {1: SENT, 3: GOT}
    else:
        assert "rtt_us" not in results.samples[1].values


def test_datagram_counts_include_the_omitted_period_and_carry_its_counts() -> None:
    """The decoder subtracts the peer's `omitted_*` counts, or local ones: iperf3 before 3.14 sends none."""
    sample = Sample(3, Side.RECEIVER, 0, 1_000_000, 900, {"gone": 3, "seen": 90})
    # Both ends count from the first datagram, but only the measured ones are reported.
    omitted = {3: omitted_counts(Numbered.metrics, {"gone": 4, "seen": 60, "rtt_us": 1.5})}
    body = encode_results(Numbered(), [sample], CPU, extended=False, omitted=omitted)
    (stream,) = body["streams"]
    assert (stream["errors"], stream["omitted_errors"]) == (7, 4)
    assert (stream["packets"], stream["omitted_packets"]) == (150, 60)
    decoded = decode_results(body, Numbered(), SIDES, "the server", {3: {"omitted_packets": 1}})
    assert decoded.samples[3].values == {"jitter_ms": 0, "gone": 3, "seen": 90}
    del stream["omitted_errors"], stream["omitted_packets"]
    from_local_counts = decode_results(body, Numbered(), SIDES, "the server", {3: {"omitted_packets": 58}})
    assert from_local_counts.samples[3].values == {"jitter_ms": 0, "gone": 7, "seen": 92}


def test_an_unsigned_minus_one_means_not_available() -> None:
    stream = {"id": 1, "bytes": 5, "retransmits": 18446744073709551615, "end_time": 1.0}
    results = decode_results({"streams": [stream]}, TRANSPORT, SIDES, "the server")
    assert results.samples[1].values["again"] is None
    assert results.cpu_percent == {}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"streams": 5},
        {"streams": [5]},
        {"streams": [{"id": 2, "bytes": 0}]},
        {"streams": [{"id": "1", "bytes": 0}]},
        {"streams": [{"id": 1}]},
        {"streams": [{"id": 1, "bytes": -1}]},
        {"streams": [{"id": 1, "bytes": 0.5}]},
        {"streams": [], "iperfpy": {"streams": [{"id": 1}]}},
        {"streams": [], "iperfpy": {}},
    ],
)
def test_impossible_results_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"^the server sent "):
        decode_results(body, TRANSPORT, SIDES, "the server")


def test_stats_round_trip() -> None:
    body = encode_stats(4, [SENT, GOT], finished=True)
    assert decode_stats(body, TRANSPORT, SIDES, "x") == Stats(4, True, {1: SENT, 3: GOT})


def test_only_declared_figures_are_kept() -> None:
    body = encode_sample(SENT)
    body["values"] |= {
        "rtt_us_min": 1,
        "again_min": 1,
        "other": 1,
        "rtt_us_mean": "x",
        "rtt_us_max": 2**70,
        "jitter_ms": True,
        "congestion": "b" + "x" * 999,
    }
    values = decode_sample(body, TRANSPORT.metrics, SIDES, "x").values
    assert set(values) == {"again", "rtt_us", "rtt_us_min", "congestion"}
    assert values["congestion"] == "b" + "x" * 255


@pytest.mark.parametrize(("given", "taken"), [(5.0, 5.0), (0, 0), (-5, None), ("5", None)])
def test_the_percentile_of_round_trips_is_not_negative(given: object, taken: float | None) -> None:
    body = encode_sample(SENT)
    body["values"] |= {"rtt_us_max": 9.0, "rtt_us_p95": given}
    assert decode_sample(body, TRANSPORT.metrics, SIDES, "x").values.get("rtt_us_p95") == taken


def test_the_omitted_flag_round_trips() -> None:
    sample = Sample(1, Side.SENDER, 0, 5, 5, {}, omitted=True)
    assert decode_sample(encode_sample(sample), (), SIDES, "x") == sample


@pytest.mark.parametrize(
    "change",
    [
        {"id": 9},
        {"start_us": 10, "end_us": 5},
        {"start_us": -1},
        {"bytes": "5"},
        {"end_us": None},
        {"values": [1]},
    ],
)
def test_impossible_samples_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"^the client sent "):
        decode_sample({**encode_sample(SENT), **change}, TRANSPORT.metrics, SIDES, "the client")


@pytest.mark.parametrize(
    "body",
    [
        {"streams": []},
        {"sequence": -1, "streams": []},
        {"sequence": "0", "streams": []},
        {"sequence": 0},
        {"sequence": 0, "streams": [encode_sample(SENT)] * 3},
        {"sequence": 0, "streams": [1]},
    ],
)
def test_impossible_stats_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"^the client sent "):
        decode_stats(body, TRANSPORT, SIDES, "the client")


@pytest.mark.parametrize(
    "output", ["a table\nof two lines\n", {"start": {}, "end": {"sum_sent": {"bytes": 1}}}]
)
def test_the_server_report_is_sent_with_the_results(output: ServerOutput) -> None:
    body = encode_results(TRANSPORT, [GOT], CPU, extended=False, server_output=output)
    assert decode_results(body, TRANSPORT, SIDES, "the server").server_output == output


@pytest.mark.parametrize("output", [{"server_output_text": 5}, {"server_output_json": []}, {}])
def test_a_server_report_of_another_type_is_dropped(output: dict[str, Any]) -> None:
    body = encode_results(TRANSPORT, [GOT], CPU, extended=False) | output
    assert decode_results(body, TRANSPORT, SIDES, "the server").server_output == ""


def test_warnings_are_bounded_by_both_ends() -> None:
    sent = [f"{number} {'x' * 1000}" for number in range(100)]
    body = encode_results(TRANSPORT, [GOT], CPU, extended=True, warnings=sent)
    kept = tuple(text[:LONGEST_WARNING] for text in sent[:MOST_WARNINGS])
    assert body["iperfpy"]["warnings"] == list(kept)
    assert decode_results(body, TRANSPORT, SIDES, "the server").warnings == kept
    body["iperfpy"]["warnings"] = [5, None, *sent]
    assert decode_results(body, TRANSPORT, SIDES, "the server").warnings == kept[: MOST_WARNINGS - 2]
    body["iperfpy"]["warnings"] = "slow"
    assert decode_results(body, TRANSPORT, SIDES, "the server").warnings == ()
    assert "slow" not in str(encode_results(TRANSPORT, [GOT], CPU, extended=False, warnings=["slow"]))


def test_a_metric_may_have_another_name_on_the_wire() -> None:
    """An iperfpy at the other end may know an earlier name."""
    renamed = (
        Metric("timeouts", "", wire="lost"),
        Metric("delay_us", "", Unit.MICROSECONDS, Kind.GAUGE, spread=True, wire="rtt_us"),
    )
    values = {"timeouts": 3, "delay_us": 9, "delay_us_min": 1, "delay_us_mean": 5, "delay_us_max": 9}
    sample = Sample(1, Side.SENDER, 0, 2_000_000, 1000, values)
    body = encode_sample(sample, renamed)
    assert set(body["values"]) == {"lost", "rtt_us", "rtt_us_min", "rtt_us_mean", "rtt_us_max"}
    assert decode_sample(body, renamed, SIDES, "x") == sample
