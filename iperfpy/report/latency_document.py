"""The JSON document of `iperfpy latency`, written and read back; `latency_schema.json` describes it.

Keys end with their unit. The figures are stored, since the document has the round trips of each message, but
not the two ways of each, nor its wait for room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.units import format_rate
from iperfpy.records import UNANSWERED, RoundTrips
from iperfpy.report.experiment_document import Json, common_facts, document_of, reading
from iperfpy.sampling.clock_difference import Basis
from iperfpy.sampling.latency_report import IDLE, LatencyReport, LatencyRow, cdf, groups
from iperfpy.sampling.message_figures import MessageFigures
from iperfpy.sampling.way_split import WaySplit
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.run_index import LATENCY, About, path_signature

COUNTS = ("due", "sent", "answered", "lost", "repeated")
"""Figures that are always known."""


def document(report: LatencyReport) -> Json:
    """The whole result: JSON values only. `rows` are sorted as the table is."""
    start: Json = {"unix_time": report.unix_time, "rounds": report.rounds}
    rows = [_row(row) for rows in groups(report) for row in rows]
    return document_of(
        report, start, {"rows": rows, "ways": _ways(report.ways), "end": {"seconds": report.seconds}}
    )


def _ways(ways: WaySplit) -> Json:
    """The knowledge behind the two ways."""
    return {
        "basis": None if ways.basis is None else ways.basis.value,
        "drift_ppm": 1e6 * ways.drift,
        "fault": ways.fault,
    }


def about(report: LatencyReport) -> About:
    """The facts of the result for the index of runs: the idle messages, or without them those of the first
    load; the best transport first."""
    answered = [[row for row in rows if row.figures.answered] for rows in groups(report)]
    idle = [row for rows in answered for row in rows if row.load == IDLE]
    shown = idle or next((rows for rows in answered if rows), [])
    best: dict[str, float | str | None] = {}
    if shown:
        first = shown[0]
        best = {"best": first.name, "p50_us": first.figures.p50_us, "p99_us": first.figures.p99_us}
        if not idle:
            best["load"] = f"{first.load} {first.direction}"
    words = [_summary(row) for row in shown[:4]]
    if shown and not idle:
        words[0] = f"under load: {words[0]}"
    return About(
        kind=LATENCY,
        unix_time=report.unix_time,
        hosts=(report.host,),
        transports=tuple(dict.fromkeys(row.name for row in report.rows)),
        directions=tuple(dict.fromkeys(row.direction for row in report.rows if row.direction)),
        path=path_signature("", report.host),
        summary="; ".join(words),
        headline=best,
        version=report.version,
        error=report.error,
    )


def _summary(row: LatencyRow) -> str:
    one = row.figures
    known = (("P99", one.p99_us), ("P90", one.p90_us), ("max", one.max_us))
    name, value = next((name, value) for name, value in known if value is not None)
    return f"{row.name} {name} {value / 1e3:.1f} ms"


def _row(row: LatencyRow) -> Json:
    times, beyond = cdf(row.times)
    return {
        "name": row.name,
        "transport": row.transport,
        "settings": dict(row.settings),
        "size_bytes": row.size_bytes,
        "messages_per_s": row.per_s,
        "seconds": row.seconds,
        "load": {
            "name": row.load,
            "direction": row.direction or None,
            "bits_per_second": dict(row.load_rate),
            "text": ", ".join(f"{way} {format_rate(rate)}" for way, rate in row.load_rate.items()),
        },
        "figures": row.figures.record(),
        "clock_offset_us": row.offset_us,
        "cdf": {
            "round_trip_us": [round(one) for one in times.tolist()],
            "share_beyond": [round(one, 9) for one in beyond.tolist()],
        },
        "rounds": [_round(one) for one in row.times],
        "error": row.error,
    }


def _round(one: RoundTrips) -> Json:
    """The samples of a round, by number of the message; null: not answered."""
    answered = one.round_trip_us != UNANSWERED
    trips = [
        value if known else None
        for value, known in zip(one.round_trip_us.tolist(), answered.tolist(), strict=True)
    ]
    wire = one.wire_bytes
    return {
        "sent": one.sent,
        "repeated": one.repeated,
        "interval_us": one.interval_us,
        "wire_sent_bytes": None if wire is None else wire[0],
        "wire_received_bytes": None if wire is None else wire[1],
        "round_trip_us": trips,
    }


# -- reading


def read(stored: Mapping[str, Any]) -> LatencyReport:
    """The result of a document, its rows as sorted there. Raises `DocumentError` if it is none."""
    with reading("message latencies"):
        whole = DocumentPart(stored)
        return LatencyReport(
            **common_facts(whole),
            seconds=whole.part("end").number("seconds"),
            rounds=whole.part("start").whole("rounds"),
            rows=tuple(_read_row(one) for one in whole.parts("rows")),
            ways=_read_ways(whole),
        )


def _read_ways(whole: DocumentPart) -> WaySplit:
    if "ways" not in whole.values:  # of an older version
        return WaySplit(Basis.SYMMETRIC)
    one = whole.part("ways")
    basis = None if one.values.get("basis") is None else Basis(one.text("basis"))
    return WaySplit(basis, one.number("drift_ppm") / 1e6, one.text("fault"))


def _read_row(one: DocumentPart) -> LatencyRow:
    load = one.part("load")
    direction, rate = load.values.get("direction"), load.part("bits_per_second")
    size_bytes = one.whole("size_bytes")
    return LatencyRow(
        name=one.text("name"),
        transport=one.text("transport"),
        settings=dict(one.part("settings").values),
        size_bytes=size_bytes,
        per_s=one.whole("messages_per_s"),
        seconds=one.number("seconds"),
        load=load.text("name"),
        direction="" if direction is None else load.text("direction"),
        figures=_read_figures(one.part("figures")),
        times=tuple(_read_round(each, size_bytes) for each in one.parts("rounds")),
        offset_us=one.number_or_none("clock_offset_us"),
        load_rate={way: rate.number(way) for way in rate.values},
        error=one.text("error"),
    )


def _read_figures(one: DocumentPart) -> MessageFigures:
    counts = {name: one.whole(name) for name in COUNTS}
    known = {item.name: one.number_or_none(item.name) for item in fields(MessageFigures)}
    return MessageFigures(**{**known, **counts})  # type: ignore[arg-type]  # the names are those of the fields


def _read_round(one: DocumentPart, size_bytes: int) -> RoundTrips:
    sent, received = one.whole_or_none("wire_sent_bytes"), one.whole_or_none("wire_received_bytes")
    return RoundTrips(
        size_bytes,
        one.number("interval_us"),
        one.whole("sent"),
        _read_trips(one.values["round_trip_us"]),
        one.whole("repeated"),
        None if sent is None or received is None else (sent, received),
    )


def _read_trips(trips: Any) -> NDArray[np.uint32]:
    """(n,) round trips; null: not answered."""
    if not isinstance(trips, list):
        raise ValueError("round_trip_us is not a list")
    if not all(one is None or (type(one) is int and 0 <= one < UNANSWERED) for one in trips):
        raise ValueError("round_trip_us holds more than microseconds")
    return np.array([UNANSWERED if one is None else one for one in trips], np.uint32)
