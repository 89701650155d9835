"""The record of a path between two ends: it comes back equal, it is short, and no record can do harm."""

from __future__ import annotations

import base64
import zlib
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iperfpy.control.evidence_codec import (
    MOST_STREAMS,
    TEXT_LIMIT_BYTES,
    decode_evidence,
    encode_evidence,
)
from iperfpy.control.framing import EVIDENCE_LIMIT_BYTES, Decoder, Document, Expect, encode_document
from iperfpy.control.results import decode_results, encode_results, key_count
from iperfpy.control.session import server_session
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.path_evidence import MOST_BINS, FlightBins, PathEvidence, merged
from iperfpy.protocols.registry import transports
from iperfpy.records import Sample


def _bins(count: int, seed: int = 1, packet_bytes: int = 1428) -> FlightBins:
    """Bins of random packets, hardest to compress."""
    random = np.random.default_rng(seed)
    sent = random.integers(0, 1 << 20, count)
    arrived = sent - random.integers(0, 1 << 10, count).clip(0, sent)
    short = random.integers(0, 100, count)
    delay_us = np.rint(random.uniform(0, 1e6, count))
    delay_us[random.random(count) < 0.2] = np.nan
    return FlightBins(0, 2_000, packet_bytes * sent - short, packet_bytes * arrived, sent, arrived, delay_us)


def _record(count: int = 400, seed: int = 1) -> PathEvidence:
    return PathEvidence(
        flight=_bins(count, seed),
        loss_runs=7,
        lost_in_runs=9,
        min_rtt_us=170_000.5,
        rtt_us={"p5": 1.5, "p50": 2.0, "p95": 3.0, "max": 4.0},
        noise_share=0.01,
        rate_bits_per_s=2e7,
        displaced_packets=3,
        limited_us={"pacing": 5, "send-window": 12},
        packet_bytes=1428,
        extra={"kernel_drops": 2},
    )


def _assert_equal(one: FlightBins | None, other: FlightBins | None) -> None:
    assert one is not None
    assert other is not None
    for each in fields(FlightBins):
        np.testing.assert_array_equal(getattr(one, each.name), getattr(other, each.name))


def _over_the_wire(body: Any) -> Any:
    decoder = Decoder("the client")
    decoder.document_limit = replace(decoder.document_limit, size_bytes=EVIDENCE_LIMIT_BYTES)
    decoder.feed(encode_document({"evidence": body}))
    message = decoder.take(Expect.DOCUMENT)
    assert isinstance(message, Document)
    return message.body["evidence"]


def test_a_record_comes_back_equal() -> None:
    sent = {1: _record(), 3: PathEvidence(min_rtt_us=5.0), 4: PathEvidence()}
    back = decode_evidence(_over_the_wire(encode_evidence(sent)), {1, 3, 4, 5})
    _assert_equal(back[1].flight, sent[1].flight)
    assert {stream: replace(one, flight=None) for stream, one in back.items()} == {
        stream: replace(one, flight=None) for stream, one in sent.items()
    }


@pytest.mark.parametrize("least_us", [-7_000_000.0, 0.0, 12.0, None])
def test_the_difference_of_the_clocks_comes_back(least_us: float | None) -> None:
    flight = replace(_bins(400), one_way=True, least_us=least_us)
    back = decode_evidence(_over_the_wire(encode_evidence({1: replace(_record(), flight=flight)})), {1})
    _assert_equal(back[1].flight, flight)


@pytest.mark.parametrize("streams", [1, 2, 128])
def test_records_of_many_streams_fit_the_limit_of_results(streams: int) -> None:
    """Wider bins, and bins of the busiest streams only: nothing else is left out."""
    transport = transports()["kcp-bbr"]
    sent = {number: _record(MOST_BINS, number) for number in range(1, streams + 1)}
    sides = dict.fromkeys(sent, Side.SENDER)
    totals = [Sample(number, Side.SENDER, 0, 1_000_000, 5) for number in sent]
    session = server_session("iperfpy-cookie")
    session.allow_figures(streams, key_count(transport.metrics))
    decoder = session._decoder
    decoder.feed(encode_document(encode_results(transport, totals, {}, extended=True, evidence=sent)))
    message = decoder.take(Expect.DOCUMENT)
    assert isinstance(message, Document)
    back = decode_results(message.body, transport, sides, "the client").evidence
    assert set(back) == set(sent)
    kept = [one.flight for one in back.values() if one.flight is not None]
    assert len(kept) == min(streams, MOST_STREAMS)
    for stream, one in back.items():
        before = sent[stream].flight
        assert before is not None
        if one.flight is not None:
            assert int(one.flight.sent_packets.sum()) == int(before.sent_packets.sum())
            assert int(one.flight.arrived_bytes.sum()) == int(before.arrived_bytes.sum())
        assert replace(one, flight=None) == replace(sent[stream], flight=None)


def test_an_ordinary_record_is_short() -> None:
    """Ten seconds at 20 Mbit/s with a queue that fills and drains."""
    count = 3_400
    sent = np.full(count, 5) + np.arange(count) % 2
    lost = (np.arange(count) % 97 == 0).astype(np.int64)
    delay_us = np.rint(170_000 + 20_000 * np.abs(np.sin(np.arange(count) / 200)))
    bins = FlightBins(0, 3_000, 1428 * sent, 1428 * (sent - lost), sent, sent - lost, delay_us)
    (entry,) = encode_evidence({1: PathEvidence(flight=bins, packet_bytes=1428)})
    assert entry["bins"]["count"] == count
    assert len(entry["bins"]["columns"]) < 20_000


def _entry(**changes: Any) -> dict[str, Any]:
    (entry,) = encode_evidence({1: _record(20)})
    bins = {**entry["bins"], **{key: value for key, value in changes.items() if key in entry["bins"]}}
    rest = {key: value for key, value in changes.items() if key not in entry["bins"]}
    return {**entry, "bins": bins, **rest}


def _text(raw: bytes) -> str:
    return str(base64.b64encode(zlib.compress(raw, 1)), "ascii")


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 0},
        {"count": -1},
        {"count": MOST_BINS + 1},
        {"count": 1 << 60},
        {"count": 21},
        {"count": 19},
        {"count": "20"},
        {"width_us": 0},
        {"width_us": 2.5},
        {"columns": "not base64 !"},
        {"columns": str(base64.b64encode(b"no zlib"), "ascii")},
        {"columns": _text(b"")},
        {"columns": _text(bytes(8 * 5 * 20 + 1))},
        {"columns": _text(bytes(20_000_000))},
        {"columns": _text(b"\xff" * (8 * 5 * 20))},
        {"columns": _text(np.full((5, 20), 1 << 62, "<i8").tobytes())},
        {"columns": "A" * (TEXT_LIMIT_BYTES + 4)},
        {"columns": 7},
        {"bins": []},
        {"bins": None},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_impossible_bins_are_left_out_and_the_figures_stay(changes: dict[str, Any]) -> None:
    back = decode_evidence([_entry(**changes)], {1})
    assert back[1].flight is None
    assert back[1].loss_runs == 7


@pytest.mark.parametrize("body", [None, 5, {}, "x", [5], [{"id": 9}], [{"id": "1"}], [{}], [{"id": 1}] * 2])
def test_records_of_no_stream_are_left_out(body: object) -> None:
    assert decode_evidence(body, {1}) == {}


def test_figures_that_are_no_numbers_are_left_out() -> None:
    bad = {"loss_runs": "7", "min_rtt_us": -1, "noise_share": True, "packet_bytes": 1 << 30}
    many = {f"key{number}": number for number in range(500)}
    back = decode_evidence([{"id": 1, **bad, "limited_us": many, "rtt_us": {"x" * 99: 1}, "extra": 3}], {1})
    assert len(back[1].limited_us) <= 12
    assert replace(back[1], limited_us={}) == PathEvidence()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(
    place=st.sampled_from(["id", "bins", "rtt_us", "limited_us", "min_rtt_us", "packet_bytes", "count"]),
    value=JSON,
    noise=st.binary(max_size=60),
)
def test_any_record_gives_a_consistent_one_or_none(place: str, value: Any, noise: bytes) -> None:
    damaged = _entry(**{place: value})
    if place != "bins" and noise:
        text = bytearray(base64.b64decode(damaged["bins"]["columns"]))
        text[: len(noise)] = noise
        damaged["bins"]["columns"] = str(base64.b64encode(text), "ascii")
    for one in decode_evidence([damaged], {1}).values():
        assert one.flight is None or not one.flight.fault()
        assert all(isinstance(number, int) for number in one.limited_us.values())


def test_both_ends_records_of_a_stream_are_one() -> None:
    one = PathEvidence(min_rtt_us=5.0, limited_us={"pacing": 3}, packet_bytes=1428)
    other = PathEvidence(min_rtt_us=7.0, loss_runs=2, limited_us={"application": 4}, flight=_bins(3))
    both = merged(one, other)
    assert both is not None
    assert (both.min_rtt_us, both.loss_runs, both.packet_bytes) == (5.0, 2, 1428)
    assert both.limited_us == {"pacing": 3, "application": 4}
    assert both.flight is other.flight
    assert merged(None, other) is other
    assert merged(one, None) is one
