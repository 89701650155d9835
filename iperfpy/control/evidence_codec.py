"""The record of a path as two ends exchange it, in the extension of the results.

    "evidence": [{"id": n, "min_rtt_us": x, ..., "rtt_us": {...}, "limited_us": {...}, "bins": {...}}, ...]
    "bins"      {"width_us": n, "one_way": bool, "count": n, "columns": text}

Only ends that both name the feature `PATH_EVIDENCE` exchange it. `columns` is base64 of zlib of five columns
of 64-bit numbers, byte by byte (the first bytes of all numbers, then the second ones): packets sent, packets
lost, the delay in microseconds (-1: not known), and the bytes sent and lost beyond those of full packets.

Nothing in a peer's record can make a test fail. A record that contradicts itself is left out, and every
length is checked before memory is taken for it.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from iperfpy.control.parameters import json_integer
from iperfpy.protocols.flight_recorder import with_fewer_bins
from iperfpy.protocols.path_evidence import MOST_BINS, FlightBins, PathEvidence

TEXT_LIMIT_BYTES = 384 * 1024
"""Most characters of all columns of one end. Wider bins make them fit."""
MOST_STREAMS = 16
"""Most streams that send their bins, those with most packets: the others send their figures only."""
FEWEST_BINS = 64
"""A record that does not fit with so many bins is sent without them."""
LARGEST = 2**53
"""Largest number that JSON carries exactly."""
LONGEST_PACKET = 1 << 16
MOST_KEYS, LONGEST_KEY = 12, 32
_COLUMNS = 5

_WHOLE = {"loss_runs", "lost_in_runs", "displaced_packets", "packet_bytes"}
_MAPPINGS = ("rtt_us", "limited_us", "extra")
_NUMBERS = tuple(one.name for one in fields(PathEvidence) if one.name not in (*_MAPPINGS, "flight"))


def encode_evidence(evidence: Mapping[int, PathEvidence]) -> list[dict[str, Any]]:
    """The records of this end, by stream id, as JSON."""
    with_bins = sorted(
        (stream for stream, one in evidence.items() if one.flight is not None),
        key=lambda stream: -_packets(evidence[stream]),
    )[:MOST_STREAMS]
    each_bytes = TEXT_LIMIT_BYTES // max(1, len(with_bins))
    body = []
    for stream, one in evidence.items():
        numbers = {name: getattr(one, name) for name in _NUMBERS if getattr(one, name) is not None}
        entry: dict[str, Any] = {"id": stream, **numbers}
        entry |= {name: mapping for name in _MAPPINGS if (mapping := _numbers_of(getattr(one, name)))}
        if stream in with_bins and one.flight is not None:
            bins = _encode_bins(one.flight, one.packet_bytes or 0, each_bytes)
            entry |= {"bins": bins} if bins else {}
        body.append(entry)
    return body


def decode_evidence(body: object, streams: Collection[int]) -> dict[int, PathEvidence]:
    """The peer's records by stream id; those that are impossible are left out."""
    if not isinstance(body, list) or len(body) > len(streams):
        return {}
    found = {}
    for entry in body:
        stream = json_integer(entry.get("id")) if isinstance(entry, Mapping) else None
        if stream in streams and stream is not None:
            found[stream] = _record(entry)
    return found


def _packets(evidence: PathEvidence) -> int:
    return 0 if evidence.flight is None else int(evidence.flight.sent_packets.sum())


def _record(entry: Mapping[str, Any]) -> PathEvidence:
    numbers: dict[str, Any] = {}
    for name in _NUMBERS:
        value = _number(entry.get(name))
        if value is not None:
            numbers[name] = int(value) if name in _WHOLE else float(value)
    if numbers.get("packet_bytes", 0) > LONGEST_PACKET:
        del numbers["packet_bytes"]
    limited_us = {key: int(value) for key, value in _numbers_of(entry.get("limited_us")).items()}
    flight = _decode_bins(entry.get("bins"), numbers.get("packet_bytes") or 0)
    return PathEvidence(
        flight=flight,
        rtt_us=_numbers_of(entry.get("rtt_us")),
        limited_us=limited_us,
        extra=_numbers_of(entry.get("extra")),
        **numbers,
    )


def _number(value: object) -> int | float | None:
    """A number from 0 up, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        return None
    return value


def _numbers_of(value: object) -> dict[str, int | float]:
    """The numbers of a mapping, under short names, and not too many."""
    if not isinstance(value, Mapping):
        return {}
    known = (
        (key, number)
        for key, one in value.items()
        if isinstance(key, str) and len(key) <= LONGEST_KEY and (number := _number(one)) is not None
    )
    return dict(list(known)[:MOST_KEYS])


# -- bins


def _encode_bins(bins: FlightBins, packet_bytes: int, limit: int) -> dict[str, Any] | None:
    """The bins as JSON, with columns of at most `limit` characters; None if that cannot be."""
    while True:
        text, count = _columns(bins, packet_bytes), len(bins.sent_packets)
        if len(text) <= limit:
            body = {"width_us": bins.width_us, "one_way": bins.one_way, "count": count, "columns": text}
            return body if bins.least_us is None else {**body, "least_us": round(bins.least_us)}
        if count < FEWEST_BINS:
            return None
        bins = with_fewer_bins(bins)


def _columns(bins: FlightBins, packet_bytes: int) -> str:
    lost = bins.sent_packets - bins.arrived_packets
    rows = np.stack(
        [
            bins.sent_packets,
            lost,
            np.where(np.isnan(bins.delay_us), -1, np.rint(np.nan_to_num(bins.delay_us))).astype(np.int64),
            bins.sent_bytes - packet_bytes * bins.sent_packets,
            bins.sent_bytes - bins.arrived_bytes - packet_bytes * lost,
        ]
    ).astype("<i8")
    # Bytes of one place side by side: most of them are 0, and those of neighbours are alike.
    planes = rows.view(np.uint8).reshape(_COLUMNS, -1, 8).transpose(0, 2, 1)
    return str(base64.b64encode(zlib.compress(planes.tobytes())), "ascii")


def _decode_bins(body: object, packet_bytes: int) -> FlightBins | None:
    """The bins of a peer, None if they contradict themselves."""
    if not isinstance(body, Mapping):
        return None
    width_us, count, text = (
        json_integer(body.get("width_us")),
        json_integer(body.get("count")),
        body.get("columns"),
    )
    if width_us is None or not 0 < width_us <= LARGEST or count is None or not 0 < count <= MOST_BINS:
        return None
    if not isinstance(text, str) or len(text) > TEXT_LIMIT_BYTES:
        return None
    size = 8 * _COLUMNS * count
    try:
        inflater = zlib.decompressobj()
        # One byte more than expected: a longer stream shows, and is not inflated.
        raw = inflater.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, zlib.error, ValueError):
        return None
    if len(raw) != size or not inflater.eof:
        return None
    planes = np.frombuffer(raw, np.uint8).reshape(_COLUMNS, 8, count).transpose(0, 2, 1)
    sent, lost, delay_us, more, more_lost = np.ascontiguousarray(planes).view("<i8")[:, :, 0].astype(np.int64)
    if (np.abs(np.stack([sent, lost, delay_us, more, more_lost])) > LARGEST // MOST_BINS).any():
        return None
    sent_bytes = packet_bytes * sent + more
    bins = FlightBins(
        0,
        width_us,
        sent_bytes=sent_bytes,
        arrived_bytes=sent_bytes - packet_bytes * lost - more_lost,
        sent_packets=sent,
        arrived_packets=sent - lost,
        delay_us=np.where(delay_us < 0, np.nan, delay_us.astype(np.float64)),
        one_way=body.get("one_way") is True,
        least_us=_clock_difference(body.get("least_us")),
    )
    return None if bins.fault() else bins


def _clock_difference(value: object) -> float | None:
    """A delay by two clocks, of either sign; None if it is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        return None
    return float(value)
