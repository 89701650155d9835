"""The JSON document of a comparison, written and read back; `compare_schema.json` describes it.

Keys end with their unit. The tests are the measurement: `standings`, `pairs` and `choice` follow from them,
so reading ignores these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from iperfpy.comparison.choice import BOTH, Choice, bulk_choice, message_choice
from iperfpy.comparison.comparison_report import (
    COLUMNS,
    SERIES,
    ComparisonReport,
    ContenderFacts,
    LeftOut,
    MeasuredMessages,
    MeasuredTest,
)
from iperfpy.comparison.message_standing import MessageStanding, message_standings
from iperfpy.comparison.ranking import Pair
from iperfpy.comparison.standing import Standing, idle_rtt_us, standings
from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.units import format_rate
from iperfpy.report.experiment_document import Json, common_facts, document_of, reading
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.finding_object import finding_object, read_finding
from iperfpy.store.run_index import COMPARE, About, path_signature

FIGURES = (
    *("steady_bits_per_second", "packet_bits_per_second"),
    *("startup_s", "startup_bytes", "idle_rtt_us", "wire_per_payload"),
    *("resent_percent", "in_vain_percent", "loss_percent"),
)
"""Fields of a test that are numbers or None, under their own names."""


def document(report: ComparisonReport) -> Json:
    """The whole comparison: JSON values only."""
    choice, messages = bulk_choice(report), message_choice(report)
    rankings = {**choice.rankings, **messages.rankings}
    start: Json = {
        "unix_time": report.unix_time,
        "address": report.address,
        "peer_is_iperfpy": report.peer_is_iperfpy,
        "limit_s": report.limit_s,
        "budget_bytes": report.budget_bytes,
        "seed": report.seed,
        "directions": [way.value for way in report.directions],
        "contenders": [_contender(one) for one in report.contenders],
        "test_s": report.test_s,
        "startup_s": report.startup_s,
        "rest_s": report.rest_s,
    }
    results: Json = {
        "idle": {"rtt_us": idle_rtt_us(report)},
        "choice": {"bulk": _choice(choice), "messages": _choice(messages)},
        "standings": [_standing(one) for way in report.directions for one in standings(report, way)],
        "pairs": [_pair(one, way) for way, ranking in rankings.items() for one in ranking.pairs],
        "message_standings": [_message_standing(one) for one in message_standings(report)],
        "tests": [_test(one) for one in report.tests],
        "messages": [_messages(one) for one in report.messages],
        "left_out": [
            {
                "contender": one.contender,
                "direction": one.direction.value if one.direction is not None else None,
                "messages": one.messages,
                "reason": one.reason,
            }
            for one in report.left_out
        ],
        "end": {
            "seconds": report.seconds,
            "sent_bytes": report.sent_bytes,
            "rounds": report.rounds,
            "converged": report.converged,
        },
    }
    return document_of(report, start, results)


def about(report: ComparisonReport) -> About:
    """The facts of a comparison for the index of runs."""
    best: dict[str, float | str | None] = {}
    words = []
    for way in report.directions:
        first = next((one for one in standings(report, way) if one.rate is not None), None)
        if first is None or first.rate is None:
            continue
        best[f"{way.value}_best"] = first.contender.name
        best[f"{way.value}_bits_per_second"] = first.rate.median
        words.append(f"{WAYS[way]} {first.contender.name} {format_rate(first.rate.median)}")
    return About(
        kind=COMPARE,
        unix_time=report.unix_time,
        hosts=(report.host,),
        transports=tuple(one.name for one in report.contenders),
        directions=tuple(way.value for way in report.directions),
        path=path_signature("", report.address),
        summary="; ".join(words),
        headline=best,
        version=report.version,
        error=report.error,
    )


def _way(direction: Direction) -> str:
    """The direction of a ranking: messages go there and back."""
    return "messages" if direction is BOTH else direction.value


def _contender(one: ContenderFacts) -> Json:
    return {
        "name": one.name,
        "transport": one.transport,
        "settings": dict(one.settings),
        "rate_bits_per_second": one.rate_bps,
        "ranked": one.ranked,
    }


def _choice(one: Choice) -> Json:
    return {
        "take": {_way(way): list(names) for way, names in one.take.items()},
        "confidence": one.confidence.value if one.confidence is not None else None,
        "sentence": one.sentence,
    }


def _standing(one: Standing) -> Json:
    rate = one.rate
    return {
        "contender": one.contender.name,
        "direction": one.direction.value,
        "tests": one.tests,
        "failures": one.failures,
        "steady_bits_per_second": None
        if rate is None
        else {"median": rate.median, "low": rate.low, "high": rate.high, "confidence": rate.confidence},
        "target_bits_per_second": one.target_bits_per_second,
        "startup_s": one.startup_s,
        "startup_bytes": one.startup_bytes,
        "rtt_us": one.rtt_us,
        "rtt_p95_us": one.rtt_p95_us,
        "bufferbloat": {"letter": one.grade, "increase_us": one.increase_us},
        "wire_per_payload": one.wire_per_payload,
        "resent_percent": one.resent_percent,
        "in_vain_percent": one.in_vain_percent,
        "loss_percent": one.loss_percent,
    }


def _message_standing(one: MessageStanding) -> Json:
    own = {item.name: getattr(one, item.name) for item in fields(one) if item.name != "contender"}
    return {"contender": one.contender.name, **own}


def _messages(one: MeasuredMessages) -> Json:
    own = {item.name: getattr(one, item.name) for item in fields(one)}
    return {**own, "round_trip_us": list(one.round_trip_us)}


def _pair(one: Pair, direction: Direction) -> Json:
    relative = one.compared.relative
    return {
        "direction": _way(direction),
        "first": one.first,
        "second": one.second,
        "p": one.compared.p,
        "corrected_p": one.p,
        "shift": None
        if relative is None
        else {"value": relative.value, "low": relative.low, "high": relative.high},
        "different": one.different,
    }


def _test(one: MeasuredTest) -> Json:
    return {
        "contender": one.contender,
        "direction": one.direction.value,
        "round": one.round,
        "started_s": one.started_s,
        "seconds": one.seconds,
        "error": one.error,
        "steady_from_s": one.steady_from_s,
        "target_bits_per_second": one.target_bits_per_second,
        **{name: getattr(one, name) for name in FIGURES},
        "rtt_us": dict(one.rtt_us),
        "sent_bytes": one.sent_bytes,
        "limit": finding_object(one.limit) if one.limit is not None else None,
        **{name: {key: list(column) for key, column in getattr(one, name).items()} for name in COLUMNS},
    }


# -- reading


def read(stored: Mapping[str, Any]) -> ComparisonReport:
    """The comparison of a document. Raises `DocumentError` if it is none."""
    with reading("a comparison"):
        return _report(DocumentPart(stored))


def _report(whole: DocumentPart) -> ComparisonReport:
    start, end = whole.part("start"), whole.part("end")
    known = start.values.get("peer_is_iperfpy")
    return ComparisonReport(
        **common_facts(whole),
        seconds=end.number("seconds"),
        limit_s=start.number("limit_s"),
        sent_bytes=end.whole("sent_bytes"),
        budget_bytes=start.whole("budget_bytes"),
        seed=start.whole("seed"),
        contenders=tuple(_read_contender(one) for one in start.parts("contenders")),
        directions=tuple(Direction(way) for way in start.texts("directions")),
        tests=tuple(_read_test(one) for one in whole.parts("tests")),
        messages=tuple(_read_messages(one) for one in whole.parts("messages")),
        rounds=end.whole("rounds"),
        test_s=start.number("test_s"),
        startup_s=start.number("startup_s"),
        rest_s=start.number("rest_s"),
        converged=end.flag("converged"),
        left_out=tuple(_read_left_out(one) for one in whole.parts("left_out")),
        peer_is_iperfpy=None if known is None else start.flag("peer_is_iperfpy"),
        address=start.text("address"),
    )


def _read_contender(one: DocumentPart) -> ContenderFacts:
    settings = one.part("settings")
    return ContenderFacts(
        one.text("name"),
        one.text("transport"),
        dict(settings.values),
        one.whole("rate_bits_per_second"),
        one.flag("ranked"),
    )


def _read_left_out(one: DocumentPart) -> LeftOut:
    way = one.values.get("direction")
    direction = None if way is None else Direction(way)
    return LeftOut(one.text("contender"), direction, one.text("reason"), one.flag("messages"))


def _read_messages(one: DocumentPart) -> MeasuredMessages:
    trips = one.values["round_trip_us"]
    if not isinstance(trips, list) or not all(type(value) is int for value in trips):
        raise ValueError("round_trip_us holds more than whole numbers")
    return MeasuredMessages(
        one.text("contender"),
        one.whole("round"),
        one.number("started_s"),
        one.text("error"),
        one.whole("size_bytes"),
        one.whole("per_s"),
        one.whole("due"),
        one.whole("sent"),
        tuple(trips),
        one.whole_or_none("wire_bytes"),
    )


def _read_test(one: DocumentPart) -> MeasuredTest:
    rtt, series = one.part("rtt_us"), one.part("series")
    # Documents of earlier versions have neither causes nor limits over time.
    causes, limits = (one.part(name) if name in one.values else DocumentPart({}) for name in COLUMNS[1:])
    numbers = {name: one.number_or_none(name) for name in FIGURES}
    return MeasuredTest(
        contender=one.text("contender"),
        direction=Direction(one.text("direction")),
        round=one.whole("round"),
        started_s=one.number("started_s"),
        error=one.text("error"),
        seconds=one.number("seconds"),
        steady_from_s=one.number("steady_from_s"),
        target_bits_per_second=one.number("target_bits_per_second"),
        rtt_us={key: rtt.number(key) for key in rtt.values},
        sent_bytes=one.whole("sent_bytes"),
        limit=read_finding(one.part("limit")) if one.values.get("limit") is not None else None,
        series={key: _numbers(series, key) for key in SERIES if key in series.values},
        resent_series={key: _numbers(causes, key) for key in causes.values},
        limit_series={key: _numbers(limits, key) for key in limits.values},
        **numbers,  # type: ignore[arg-type]  # the names are those of FIGURES
    )


def _numbers(part: DocumentPart, key: str) -> tuple[float | None, ...]:
    values = part.values[key]
    if not isinstance(values, list) or not all(
        value is None or type(value) in (int, float) for value in values
    ):
        raise ValueError(f"{key} holds more than numbers")
    return tuple(values)
