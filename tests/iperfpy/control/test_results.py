"""Results in iperf3's shape, interval figures in ours, and what a hostile peer may put in them."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from iperfpy.control.results import (
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


def test_results_of_a_sender_are_iperf3s() -> None:
    body = encode_results(TRANSPORT, [SENT], CPU, "bbr", extended=False)
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


def test_results_of_a_receiver() -> None:
    body = encode_results(TRANSPORT, [GOT], CPU, extended=False)
    assert body["sender_has_retransmits"] == -1
    assert "congestion_used" not in body
    stream = body["streams"][0]
    assert (stream["retransmits"], stream["errors"], stream["jitter"]) == (-1, 3, 0.0005)


def test_a_sender_that_cannot_count_says_so() -> None:
    sample = Sample(1, Side.SENDER, 0, 1, 0, {"again": None})
    body = encode_results(TRANSPORT, [sample], {}, extended=False)
    assert body["sender_has_retransmits"] == 0
    assert body["streams"][0]["retransmits"] == -1


@pytest.mark.parametrize("extended", [False, True])
def test_results_come_back(extended: bool) -> None:
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


def test_datagrams_are_counted_from_the_first_one_with_the_omitted_ones_beside() -> None:
    """iperf3 subtracts: what the other end says, since 3.14, or what it has counted itself."""
    sample = Sample(3, Side.RECEIVER, 0, 1_000_000, 900, {"gone": 3, "seen": 90})
    omitted = {3: omitted_counts(Numbered.metrics, {"gone": 4, "seen": 60, "rtt_us": 1.5})}
    body = encode_results(Numbered(), [sample], CPU, extended=False, omitted=omitted)
    (stream,) = body["streams"]
    assert (stream["errors"], stream["omitted_errors"]) == (7, 4)
    assert (stream["packets"], stream["omitted_packets"]) == (150, 60)
    told = decode_results(body, Numbered(), SIDES, "the server", {3: {"omitted_packets": 1}})
    assert told.samples[3].values == {"jitter_ms": 0, "gone": 3, "seen": 90}
    del stream["omitted_errors"], stream["omitted_packets"]
    guessed = decode_results(body, Numbered(), SIDES, "the server", {3: {"omitted_packets": 58}})
    assert guessed.samples[3].values == {"jitter_ms": 0, "gone": 7, "seen": 92}


def test_minus_one_as_old_servers_print_it_is_not_available() -> None:
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
def test_results_that_cannot_be(body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"^the server sent "):
        decode_results(body, TRANSPORT, SIDES, "the server")


def test_stats_come_back() -> None:
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
        "congestion": "b\x1b" + "x" * 999,
    }
    values = decode_sample(body, TRANSPORT.metrics, SIDES, "x").values
    assert set(values) == {"again", "rtt_us", "rtt_us_min", "congestion"}
    assert values["congestion"] == "b�" + "x" * 254


def test_the_omitted_mark_travels() -> None:
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
def test_samples_that_cannot_be(change: dict[str, Any]) -> None:
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
def test_stats_that_cannot_be(body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"^the client sent "):
        decode_stats(body, TRANSPORT, SIDES, "the client")


@pytest.mark.parametrize(
    "output", ["a table\nof two lines\n", {"start": {}, "end": {"sum_sent": {"bytes": 1}}}]
)
def test_the_servers_report_travels_with_its_results(output: ServerOutput) -> None:
    body = encode_results(TRANSPORT, [GOT], CPU, extended=False, server_output=output)
    assert decode_results(body, TRANSPORT, SIDES, "the server").server_output == output


@pytest.mark.parametrize("output", [{"server_output_text": 5}, {"server_output_json": []}, {}])
def test_a_server_output_of_another_type_is_ignored(output: dict[str, Any]) -> None:
    body = encode_results(TRANSPORT, [GOT], CPU, extended=False) | output
    assert decode_results(body, TRANSPORT, SIDES, "the server").server_output == ""
