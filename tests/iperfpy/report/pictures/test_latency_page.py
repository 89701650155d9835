"""The page of message latencies, from the document of `iperfpy latency`."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from iperfpy.errors import DocumentError
from iperfpy.report.pictures.document_page import page_of_document
from iperfpy.report.pictures.html_page import LARGEST_BYTES, html_of
from iperfpy.report.pictures.latency_page import page_of_latency
from iperfpy.report.pictures.page_model import Boxes, Distribution, Table, Timeline
from iperfpy.store.run_index import LATENCY
from tests.iperfpy.report.pictures.picture_scenes import EVIL
from tests.iperfpy.report.pictures.test_html_page import parsed


def row(name: str, load: str = "none", direction: str | None = None, lost: int = 0) -> dict[str, Any]:
    """1,000 messages in 10 s, `lost` of them without an answer; the 500th took 900 ms."""
    chance = random.Random(f"{name} {load} {direction}")
    trips: list[int | None] = [round(80_000 + 1_000 * chance.expovariate(0.2)) for _ in range(1000)]
    trips[500] = 900_000
    trips[:lost] = [None] * lost
    answered = sorted(trip for trip in trips if trip is not None)
    return {
        "name": name,
        "transport": name.partition(" ")[0],
        "settings": {"mode": "fast"} if "fast" in name else {},
        "size_bytes": 100,
        "messages_per_s": 100,
        "seconds": 10.0,
        "load": {
            "name": load,
            "direction": direction,
            "bits_per_second": {"up": 18.4e6} if direction else {},
            "text": "up 18.4 Mbit/s" if direction else "",
        },
        "figures": {
            "due": 1000,
            "sent": 1000,
            "answered": 1000 - lost,
            "p50_us": float(answered[500 - lost // 2]),
            "p90_us": float(answered[-100]),
            "p99_us": None if lost else float(answered[-10]),
            "max_us": 900_000.0,
            "lost_percent": lost / 10,
            "wire_ratio": 1.5,
        },
        "clock_offset_us": None,
        "cdf": {
            "round_trip_us": answered[::10],
            "share_beyond": [1 - (place + 1) / 1000 for place in range(0, len(answered), 10)],
        },
        "rounds": [{"sent": 1000, "interval_us": 10_000.0, "round_trip_us": trips}],
        "error": "",
    }


def document(*rows: dict[str, Any], error: str = "") -> dict[str, Any]:
    whole: dict[str, Any] = {
        "start": {
            "version": "iperfpy 0.1.0",
            "system_info": "Linux",
            "unix_time": 1_795_953_000.0,
            "connecting_to": {"host": "192.0.2.7", "port": 5201},
            "rounds": 1,
        },
        "rows": list(rows),
        "end": {"seconds": 65.0},
        "warnings": [],
    }
    return {**whole, "error": error} if error else whole


def whole() -> dict[str, Any]:
    names = ("udp", "kcp fast", "tcp bbr", "kcp-bbr")
    idle = [row(name, lost=20 if name == "udp" else 0) for name in names]
    return document(*idle, *(row(name, name, "up") for name in names[1:]))


def test_each_load_has_its_table_and_pictures() -> None:
    page = page_of_latency(whole())
    group = [Table, Timeline, Distribution, Boxes]
    assert [type(block) for block in page.blocks[:8]] == [*group, *group]
    assert page.blocks[0].title == "Idle path"
    assert page.blocks[4].title == "Beside own bulk data, up"
    assert page.command == (
        "iperfpy latency 192.0.2.7 --proto udp,kcp:mode=fast,tcp,kcp-bbr -l 100 --rate 100 --load none,own"
        " --load-direction up -t 10 --rounds 1"
    )


def test_a_named_load_has_one_table_and_its_name_in_the_command() -> None:
    page = page_of_latency(document(*(row(name, "kcp-bbr", "up") for name in ("udp", "kcp-bbr"))))
    assert [block.title for block in page.blocks if isinstance(block, Table)] == ["Beside kcp-bbr, up"]
    assert " --load kcp-bbr --load-direction up " in page.command


def test_transports_are_compared_by_the_highest_percentile_that_all_have() -> None:
    idle, loaded = page_of_latency(whole()).headlines
    assert idle.name.startswith("P90, idle path: ")
    assert loaded.name.startswith("P99, beside own bulk data, up: ")


def test_each_load_has_a_headline_of_its_own() -> None:
    loads = ("kcp-bbr", "tcp")
    page = page_of_latency(document(*(row("udp", load, "down") for load in loads)))
    assert [one.name for one in page.headlines] == [f"P99, beside {load}, down: udp" for load in loads]


def test_headlines_of_several_kinds_of_messages_name_theirs() -> None:
    rows = [row("udp", "", "") | {"size_bytes": size} for size in (100, 1_000)]
    names = [one.name for one in page_of_latency(document(*rows)).headlines]
    assert len(set(names)) == 2
    assert "1,000" in names[1] or "1000" in names[1]


def test_a_transport_looks_the_same_in_every_picture() -> None:
    page = page_of_latency(whole())
    slots: dict[str, set[int]] = {}
    for block in page.blocks:
        if isinstance(block, Distribution):
            for curve in block.curves:
                slots.setdefault(curve.name, set()).add(curve.slot)
        if isinstance(block, Timeline):
            for trace in block.panels[0].traces:
                slots.setdefault(trace.name, set()).add(trace.slot)
    assert slots == {"udp": {0}, "kcp fast": {1}, "tcp bbr": {2}, "kcp-bbr": {3}}


def test_a_slow_message_is_seen_at_its_time() -> None:
    page = page_of_latency(whole())
    timeline = next(block for block in page.blocks if isinstance(block, Timeline))
    (trace,) = [trace for trace in timeline.panels[0].traces if trace.name == "kcp-bbr"]
    highest = max(range(len(trace.highs)), key=lambda place: trace.highs[place] or 0.0)
    assert trace.highs[highest] == 900.0
    assert timeline.starts_s[highest] == pytest.approx(5.0)
    # The median of its stretch is not moved by one message.
    assert (trace.values[highest] or 0.0) < 100.0


def test_lost_messages_end_a_curve_below_the_top() -> None:
    page = page_of_latency(whole())
    distribution = next(block for block in page.blocks if isinstance(block, Distribution))
    top = {curve.name: curve.points[-1][1] for curve in distribution.curves}
    assert top["udp"] == pytest.approx(0.98, abs=0.01)
    assert top["kcp-bbr"] > 0.985


def test_a_percentile_of_too_few_messages_is_not_shown() -> None:
    table = next(block for block in page_of_latency(whole()).blocks if isinstance(block, Table))
    assert table.rows[0][table.header.index("P99 ms")] == "-"


def test_a_load_that_failed_is_a_warning() -> None:
    failed = {**row("kcp", "kcp", "up"), "rounds": [], "error": "the server went away", "figures": {}}
    failed["cdf"] = {"round_trip_us": [], "share_beyond": []}
    page = page_of_latency(document(failed, error="the server went away"))
    assert page.warnings == ("kcp: the server went away",)
    assert page.error == "the server went away"
    parsed(html_of(page))


def test_the_page_is_small_and_its_text_stays_text() -> None:
    made = whole()
    made["rows"][0]["name"] = made["rows"][0]["load"]["text"] = made["start"]["connecting_to"]["host"] = EVIL
    text = html_of(page_of_latency(made))
    assert len(text.encode()) < LARGEST_BYTES
    assert text.count("<script") == 3
    assert "\u202e" not in text


@pytest.mark.parametrize("wrong", [{}, {"start": {}}, document({"name": 3}), {**document(), "end": {}}])
def test_another_document_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        page_of_document(LATENCY, wrong)


def groups(count: int) -> dict[str, Any]:
    """Three transports at as many sizes of messages."""
    names = ("udp", "kcp fast", "tcp bbr", "kcp-bbr")
    return document(*({**row(name), "size_bytes": 100 + size} for size in range(count) for name in names))


def test_a_page_of_many_groups_is_small_and_has_them_all() -> None:
    text = html_of(page_of_latency(groups(12)))
    assert len(text.encode()) <= LARGEST_BYTES
    shown = "".join(parsed(text).text)
    assert all(
        f"messages of {100 + size} bytes, Idle path: {word}" in shown
        for size in range(12)
        for word in ("distribution", "spread")
    )
    assert "left out" not in shown


def test_a_page_says_what_it_cannot_hold() -> None:
    text = html_of(page_of_latency(groups(20)))
    assert 0.8 * LARGEST_BYTES < len(text.encode()) <= LARGEST_BYTES
    shown = "".join(parsed(text).text)
    assert re.search(r"[1-9][0-9]* pictures are left out: a page has at most 200 KB", shown)
    # Tables stay: the figures of the last group are there.
    assert "messages of 119 bytes" in shown
