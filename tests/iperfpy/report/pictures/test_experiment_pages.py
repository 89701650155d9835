"""The pages of a comparison and of a diagnosis, from their documents."""

from __future__ import annotations

import random
import shlex
from dataclasses import replace
from typing import Any

import pytest

from iperfpy.cli.commands import compare, diagnose
from iperfpy.comparison.comparison_report import (
    ComparisonReport,
    ContenderFacts,
    LeftOut,
    MeasuredMessages,
    MeasuredTest,
)
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.errors import DocumentError
from iperfpy.experiments.contender import contenders_of
from iperfpy.plan import Direction
from iperfpy.report.compare_document import document as compare_document
from iperfpy.report.compare_document import read as read_comparison
from iperfpy.report.diagnosis_document import document as diagnosis_document
from iperfpy.report.latency_document import document as latency_document
from iperfpy.report.pictures.comparison_page import page_of_comparison
from iperfpy.report.pictures.diagnosis_page import page_of_diagnosis
from iperfpy.report.pictures.document_page import page_of_document
from iperfpy.report.pictures.html_page import LARGEST_BYTES, html_of
from iperfpy.report.pictures.page_model import (
    Box,
    Boxes,
    Cloud,
    Curve,
    Distribution,
    Facts,
    Page,
    Scatter,
    Table,
    Timeline,
    Trace,
)
from iperfpy.store.run_index import COMPARE, DIAGNOSE, LATENCY, TEST
from tests.iperfpy.report import diagnosis_scenes
from tests.iperfpy.report.latency_scenes import latency_report
from tests.iperfpy.report.pictures.picture_scenes import EVIL, kcp_run
from tests.iperfpy.report.pictures.test_html_page import parsed

UP, DOWN = Direction.FORWARD, Direction.REVERSE
CONTENDERS = (
    ContenderFacts("tcp bbr", "tcp", {"congestion": "bbr"}),
    ContenderFacts("kcp", "kcp"),
    ContenderFacts("kcp-bbr", "kcp-bbr"),
    ContenderFacts("udp 20M", "udp", rate_bps=20_000_000, ranked=False),
)


def measured(chance: random.Random, name: str, way: Direction, number: int) -> MeasuredTest:
    rate = {"tcp bbr": 18e6, "kcp": 8e6, "kcp-bbr": 17e6}.get(name, 15e6) * (1 + chance.gauss(0, 0.01))
    ends = tuple(round(0.1 * (at + 1), 3) for at in range(44))
    rtts = tuple(80_000 + 1_000 * chance.expovariate(0.2) for _ in ends)
    lost = tuple(round(chance.expovariate(0.5), 3) for _ in ends)
    shares = {"loss_percent": lost, "resent_percent": lost} if "kcp" in name else {}
    causes = {"fast": lost, "early": tuple(0.0 for _ in ends)} if "kcp" in name else {}
    paced = tuple(round(chance.random(), 4) for _ in ends)
    limits = {"pacing": paced, "congestion window": tuple(1 - share for share in paced)}
    limit = Finding(way, Cause.LINE, Confidence.LIKELY, "the path: 18.9 Mbit/s", "it was held", "nothing")
    return MeasuredTest(
        name,
        way,
        number,
        float(number),
        seconds=4.4,
        steady_from_s=1.6,
        steady_bits_per_second=rate,
        packet_bits_per_second=rate * 1.05,
        startup_s=0.8,
        startup_bytes=3_000_000,
        idle_rtt_us=80_000.0,
        rtt_us={"p5": 80_100.0, "p50": 84_000.0, "p95": 95_000.0, "max": 120_000.0},
        wire_per_payload=1.05,
        resent_percent=1.0,
        sent_bytes=12_000_000,
        limit=limit,
        series={"end_s": ends, "bits_per_second": tuple(rate for _ in ends), "rtt_us": rtts, **shares},
        resent_series=causes,
        limit_series=limits,
    )


def messages_of(chance: random.Random, name: str, number: int) -> MeasuredMessages:
    trips = tuple(round(80_000 + 5_000 * chance.expovariate(1.0)) for _ in range(200))
    return MeasuredMessages(name, number, 10.0 * number, "", 100, 100, 200, 200, trips, 60_000)


def comparison(**changes: Any) -> ComparisonReport:
    chance = random.Random(5)
    tests = tuple(
        measured(chance, one.name, way, number)
        for number in range(1, 8)
        for one in CONTENDERS
        for way in (UP, DOWN)
    )
    messages = tuple(
        messages_of(chance, one.name, number) for number in range(1, 8) for one in CONTENDERS[:3]
    )
    known: dict[str, Any] = {
        "messages": messages,
        "contenders": CONTENDERS,
        "directions": (UP, DOWN),
        "tests": tests,
        "rounds": 7,
        "test_s": 4.4,
        "startup_s": 1.6,
        "rest_s": 0.4,
        "limit_s": 480.0,
        "seed": 4242,
        "version": "iperfpy 0.1.0",
        "server_version": "iperfpy 8",
        "server_system_info": "Linux 6.1 x86_64",
        "peer_is_iperfpy": True,
        "address": "192.0.2.7",
    }
    return ComparisonReport("192.0.2.7", 5300, 1_795_953_000.0, 300.0, **{**known, **changes})


def kinds(page: Page) -> list[str]:
    return [type(block).__name__ for block in page.blocks]


def test_a_comparison_has_its_pictures_in_each_direction() -> None:
    page = page_of_comparison(comparison())
    pictures = ["Timeline", "Scatter", "Distribution", "Boxes"]
    tables = ["Table", "Table", "Distribution"]
    assert kinds(page) == [*tables, *pictures, *pictures, "Facts", "Facts", "Facts"]
    assert page.verdict[0].label == "Bulk data"
    assert "tcp bbr" in page.verdict[0].sentence
    assert [(one.name, one.unit) for one in page.headlines[:2]] == [
        ("up: tcp bbr, steady", "Mbit/s"),
        ("down: tcp bbr, steady", "Mbit/s"),
    ]


def test_the_headline_of_messages_is_that_of_the_best_contender() -> None:
    """By the highest percentile that it has: another contender may have had more messages."""
    whole, best = comparison(), "kcp"
    fast = [
        replace(one, round_trip_us=tuple(trip // 2 for trip in one.round_trip_us))
        for one in whole.messages
        if one.contender == best
    ]
    others = [one for one in whole.messages if one.contender != best]
    for own, words in ((fast, "99th percentile"), (fast[:2], "90th percentile")):
        page = page_of_comparison(replace(whole, messages=(*own, *others)))
        assert page.headlines[2].name == f"messages: {best}, {words}"


def upward(report: ComparisonReport) -> Timeline:
    return next(block for block in page_of_comparison(report).blocks if isinstance(block, Timeline))


def test_a_comparison_shows_loss_retransmissions_by_cause_and_limits_over_the_same_time() -> None:
    up = upward(comparison())
    drawn = {panel.title: [trace.name for trace in panel.traces] for panel in up.panels}
    assert list(drawn) == [
        *("Throughput", "Round-trip time", "Lost on the path", "Sent again", "Sent again, fast"),
    ]
    # tcp has no count of losses; a cause that never occurred has no panel.
    assert drawn["Lost on the path"] == drawn["Sent again, fast"] == ["kcp", "kcp-bbr"]
    names = [one.name for one in CONTENDERS]
    assert [ribbon.title for ribbon in up.ribbons] == [f"Limit of the sender, {name}" for name in names]
    for ribbon in up.ribbons:
        assert [lane.name for lane in ribbon.limits] == ["pacing", "congestion window"]
        for shares in zip(*(lane.shares for lane in ribbon.limits), strict=True):
            assert sum(shares) == pytest.approx(1)


def test_a_limit_that_a_test_did_not_have_counts_as_none_of_its_time() -> None:
    tests = tuple(
        replace(one, limit_series={"pacing": (1.0,) * 44} if one.round % 2 else {"processor": (1.0,) * 40})
        for one in comparison().tests
        if one.round <= 2
    )
    lanes = {lane.name: lane.shares for lane in upward(comparison(tests=tests)).ribbons[0].limits}
    assert lanes["pacing"] == (0.5,) * 40 + (1.0,) * 4
    assert lanes["processor"] == (0.5,) * 40 + (0.0,) * 4


def test_a_comparison_of_an_earlier_version_has_the_panels_that_it_can() -> None:
    stored = compare_document(comparison())
    for one in stored["tests"]:
        for key in ("resent_series", "limit_series"):
            del one[key]
        for key in ("loss_percent", "resent_percent"):
            one["series"].pop(key, None)
    up = upward(read_comparison(stored))
    assert [panel.title for panel in up.panels] == ["Throughput", "Round-trip time"]
    assert up.ribbons == ()


def test_a_contender_looks_the_same_in_every_picture() -> None:
    page = page_of_comparison(comparison())
    names: dict[str, set[int]] = {}
    for block in page.blocks:
        traces = (
            [trace for panel in block.panels for trace in panel.traces] if isinstance(block, Timeline) else []
        )
        clouds = block.clouds if isinstance(block, Scatter) else ()
        curves = block.curves if isinstance(block, Distribution) else ()
        boxes = block.boxes if isinstance(block, Boxes) else ()
        found: list[Trace | Cloud | Curve | Box] = [*traces, *clouds, *curves, *boxes]
        for one in found:
            names.setdefault(one.name, set()).add(one.slot)
    assert names == {"tcp bbr": {0}, "kcp": {1}, "kcp-bbr": {2}, "udp 20M": {3}}


def test_a_picture_of_a_comparison_has_a_point_per_test() -> None:
    page = page_of_comparison(comparison())
    scatter = next(block for block in page.blocks if isinstance(block, Scatter))
    assert [len(cloud.points) for cloud in scatter.clouds] == [7, 7, 7, 7]
    boxes = next(block for block in page.blocks if isinstance(block, Boxes))
    assert all(len(box.values) == 7 for box in boxes.boxes)
    messages, delays, *_ = (block for block in page.blocks if isinstance(block, Distribution))
    assert [curve.samples for curve in messages.curves] == [7 * 200] * 3
    curve = delays.curves[0]
    # Intervals of 0.1 s after a start-up of 1.6 s, in seven tests.
    assert curve.samples == 7 * 28


def test_the_table_of_the_page_is_that_of_the_terminal() -> None:
    from iperfpy.report.compare_text import lines

    report = comparison()
    tables = [block for block in page_of_comparison(report).blocks if isinstance(block, Table)]
    assert [table.title for table in tables] == ["Bulk data", "Messages"]
    text = ["".join(span for span, _ in line).split() for line in lines(report)]
    for row in (row for table in tables for row in table.rows):
        words = " ".join(row[1:]).split()
        assert any(line[-len(words) :] == words for line in text), row


def test_the_command_repeats_the_comparison() -> None:
    words = shlex.split(page_of_comparison(comparison()).command)
    assert words[:3] == ["iperfpy", "compare", "192.0.2.7"]
    values = compare.subcommand().make_context("compare", words[2:]).params
    assert (values["port"], values["seed"], values["time_us"]) == (5300, 4242, 480_000_000)
    contenders = contenders_of(",".join(values["proto"]).split(","), values["settings"])
    assert [(one.transport.name, dict(one.chosen), one.rate_bps) for one in contenders] == [
        (one.transport, dict(one.settings), one.rate_bps) for one in CONTENDERS
    ]


def test_a_comparison_that_ended_early_shows_what_was_measured() -> None:
    whole = comparison()
    gone = LeftOut("quic", None, "the server has no quic")
    page = page_of_comparison(
        comparison(
            tests=whole.tests[:3], messages=(), rounds=0, error="the server went away", left_out=(gone,)
        )
    )
    assert page.error == "the server went away"
    assert any("quic" in warning for warning in page.warnings)
    assert "Table" in kinds(page)
    parsed(html_of(page))


def test_a_comparison_without_a_test_is_a_page_of_words() -> None:
    page = page_of_comparison(comparison(tests=(), messages=(), rounds=0, error="connection refused"))
    assert kinds(page) == ["Facts", "Facts", "Facts"]
    parsed(html_of(page))


def test_a_stored_comparison_has_the_same_page() -> None:
    report = comparison()
    assert page_of_document(COMPARE, compare_document(report)) == page_of_comparison(report)


@pytest.mark.parametrize("name", diagnosis_scenes.SCENES)
def test_a_diagnosis_has_a_page(name: str) -> None:
    report = diagnosis_scenes.SCENES[name]()
    page = page_of_diagnosis(diagnosis_document(report))
    text = "".join(parsed(html_of(page)).text)
    for finding in report.findings:
        assert finding.sentence in text
    assert {"Scatter", "Boxes", "Table", "Facts"} <= set(kinds(page))


def test_a_diagnosis_names_limit_evidence_and_advice() -> None:
    page = page_of_diagnosis(diagnosis_document(diagnosis_scenes.whole()))
    up, down, both = page.verdict
    assert (up.label, down.label, both.label) == ("Up", "Down", "Both directions")
    assert up.sentence == f"{diagnosis_scenes.QUEUE.sentence} (sure)"
    assert ("do", diagnosis_scenes.QUEUE.advice) in up.lines
    assert ("also", f"{diagnosis_scenes.NOISE.sentence} (possibly)") in down.lines
    assert [(one.value, one.unit) for one in page.headlines[:2]] == [
        ("20.5", "of 24.0 Mbit/s"),
        ("17.7", "of 20.0 Mbit/s"),
    ]


def test_a_curve_of_two_rounds_is_half_way_between_them() -> None:
    document = diagnosis_document(diagnosis_scenes.whole())
    rounds = document["directions"][0]["rounds"]
    del rounds[2:]
    for number, tests in enumerate(rounds, 1):
        for one in tests:
            one["path"] = [{"rtt_us": {"p50": 10_000.0 * number}}]
    page = page_of_diagnosis(document)
    distribution = next(block for block in page.blocks if isinstance(block, Distribution))
    assert len(rounds) == 2
    assert {curve.points for curve in distribution.curves if curve.name.endswith(" up")} == {((15.0, 0.5),)}


def test_the_command_repeats_the_diagnosis() -> None:
    report = diagnosis_scenes.whole()
    words = shlex.split(page_of_diagnosis(diagnosis_document(report)).command)
    values = diagnose.subcommand().make_context("diagnose", words[2:]).params
    assert values["host"] == report.host
    assert values["quick"] is report.quick


def test_a_diagnosis_without_a_measurement_has_a_page() -> None:
    page = page_of_diagnosis(diagnosis_document(diagnosis_scenes.nothing()))
    assert "refused" in page.error
    parsed(html_of(page))


def test_the_page_of_an_experiment_has_the_facts_of_both_ends() -> None:
    documents = (
        (COMPARE, compare_document(comparison())),
        (DIAGNOSE, diagnosis_document(diagnosis_scenes.whole())),
        (LATENCY, latency_document(latency_report())),
    )
    for kind, document in documents:
        rows = {
            block.title: dict(block.rows)
            for block in page_of_document(kind, document).blocks
            if isinstance(block, Facts)
        }
        assert rows["Server"]["Program"] == "iperfpy 8"
        assert rows["Server"]["System"] == "Linux 6.1 x86_64"
        # The document of an earlier version does not have them.
        del document["start"]["server"]
        page_of_document(kind, document)


def test_pages_of_experiments_are_small() -> None:
    for page in (
        page_of_comparison(comparison()),
        page_of_diagnosis(diagnosis_document(diagnosis_scenes.whole())),
    ):
        assert len(html_of(page).encode()) < LARGEST_BYTES


def test_a_page_without_a_time_axis_has_no_script() -> None:
    page = page_of_diagnosis(diagnosis_document(diagnosis_scenes.whole()))
    assert "<script" not in html_of(page)


def test_names_of_hosts_and_peers_stay_text() -> None:
    report = comparison(
        error=EVIL,
        warnings=(EVIL,),
        address=EVIL,
        system_info=EVIL,
        server_version=EVIL,
        server_system_info=EVIL,
    )
    text = html_of(page_of_comparison(report))
    assert text.count("<script") == 3
    assert "\u202e" not in text
    document = diagnosis_document(diagnosis_scenes.whole())
    document["start"]["connecting_to"]["host"] = EVIL
    document["diagnosis"][0]["sentence"] = EVIL
    document["directions"][0]["rounds"][0][0]["transport"] = EVIL
    text = html_of(page_of_diagnosis(document))
    assert "<script" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("kind", [TEST, DIAGNOSE, COMPARE])
@pytest.mark.parametrize(
    "document",
    [{}, {"start": 3}, {"start": {"version": "x", "test_start": 0}, "directions": "?"}, {"end": []}],
)
def test_a_document_of_something_else_is_an_error(kind: str, document: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        page_of_document(kind, document)


def test_a_document_of_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(DocumentError, match="no page"):
        page_of_document("weather", {})


def test_a_stored_test_has_its_page() -> None:
    assert page_of_document(TEST, kcp_run(5).document()).title.startswith("kcp-bbr up")
