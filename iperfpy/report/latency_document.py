"""The JSON document of `iperfpy latency`; `latency_schema.json` describes it. Keys end with their unit."""

from __future__ import annotations

from iperfpy.protocols.units import format_rate
from iperfpy.records import UNANSWERED, MessageTimes
from iperfpy.report.experiment_document import Json, document_of
from iperfpy.sampling.latency_report import IDLE, LatencyReport, LatencyRow, cdf, groups
from iperfpy.store.run_index import LATENCY, About, path_signature


def document(report: LatencyReport) -> Json:
    """The whole result: JSON values only. `rows` are sorted as the table is."""
    start: Json = {"unix_time": report.unix_time, "rounds": report.rounds}
    rows = [_row(row) for rows in groups(report) for row in rows]
    return document_of(report, start, {"rows": rows, "end": {"seconds": report.seconds}})


def about(report: LatencyReport) -> About:
    """The facts of the result for the index of runs: the idle messages, the best transport first."""
    idle = [row for rows in groups(report) for row in rows if row.load == IDLE and row.figures.answered]
    best: dict[str, float | str | None] = {}
    for row in idle:
        best.setdefault("best", row.name)
        best.setdefault("p50_us", row.figures.p50_us)
        best.setdefault("p99_us", row.figures.p99_us)
    words = [_summary(row) for row in idle[:4]]
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
            "bits_per_second": row.load_rate,
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


def _round(one: MessageTimes) -> Json:
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
