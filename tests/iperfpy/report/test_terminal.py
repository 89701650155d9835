"""Text reports: golden files, and properties that golden files cannot show."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from iperfpy import __version__
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.metrics import Kind, Metric, Unit
from iperfpy.protocols.registry import transport
from iperfpy.records import Row
from iperfpy.report.columns import Line, columns_for, decimal, format_value, milliseconds, title_of
from iperfpy.report.screen import STYLES, PlainScreen, RichScreen, screen_for
from iperfpy.report.table import squeezed
from iperfpy.report.terminal import TextSink, Wording, banner
from iperfpy.report.terminal import test_line as line_of_test
from iperfpy.sampling.host import system_info
from tests.iperfpy.report.scenes import (
    NARROW,
    SCENES,
    SceneTransport,
    forward,
    golden,
    receiver,
    reverse_omit,
    sender,
    start_of,
)

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(("path", "text"), list(golden()), ids=lambda value: getattr(value, "stem", ""))
def test_tables_match_the_golden_files(path: Path, text: str) -> None:
    """Accept a change by: python -m tests.iperfpy.report.scenes"""
    assert text == path.read_text()


@pytest.mark.parametrize("name", SCENES)
def test_every_cell_ends_under_its_title(name: str) -> None:
    lines = SCENES[name]().text().splitlines()
    header = next(line for line in lines if "[ ID]" in line)
    ends = [found.end() for found in re.finditer(r"\S+", header.split("Interval(s)")[1])]
    offset = header.index("Interval(s)") + len("Interval(s)")
    rows = [line for line in lines if re.search(r"\d\.\d\d-\d", line)]
    assert rows
    for row in rows:
        cells = re.sub(r" +(\(omitted\)|sender|receiver)$", "", row)[offset:].rstrip()
        for found in re.finditer(r"(?<= )\S+", cells):
            assert found.end() in ends, row


def test_the_banner_names_the_target_rate() -> None:
    """iperf3 -u sends 1 Mbit/s by default: the banner names the rate, so that a low result is no surprise."""
    start = forward().start
    assert not any("Target rate" in text for text in banner(start, verbose=False))
    limited = replace(start, plan=replace(start.plan, rate_bps=1_048_576, tos=0x28))
    assert "Target rate: 1.05 Mbit/s per stream" in list(banner(limited, verbose=False))
    assert any(text.endswith("type of service 0x28") for text in banner(limited, verbose=True))


def test_a_verbose_report_begins_with_the_version_and_the_machine() -> None:
    out = io.StringIO()
    sink = TextSink(PlainScreen(out), io.StringIO(), Wording(verbose=True))
    sink.connecting(ClientOptions("server.example"))
    program, system, connecting = out.getvalue().splitlines()
    assert program == f"iperfpy {__version__}"
    assert system == system_info()
    assert connecting == "Connecting to host server.example, port 5201"


def test_tables_of_both_directions_have_the_same_columns() -> None:
    header = [
        next(line for line in scene().text().splitlines() if line.startswith("[ ID]"))
        for scene in (forward, reverse_omit)
    ]
    assert header[0] == header[1]
    assert header[0].split()[2:] == [
        *("Interval(s)", "Transfer(MiB)", "Bandwidth(Mbit/s)", "RTT(ms)"),
        *("Retrans", "Retrans(%)", "Lost(%)", "Early(%)", "Fast(%)"),
    ]


def test_a_reversed_test_shows_the_senders_figures_at_the_client() -> None:
    row = next(line for line in reverse_omit().text().splitlines() if " 200 " in line)
    assert row.split()[-6:] == ["165.0", "200", "9.50", "9.50", "0.00", "0.00"]


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
@pytest.mark.parametrize("name", SCENES)
def test_a_terminal_shows_the_same_characters_as_a_pipe(name: str, width: int) -> None:
    scene, out = SCENES[name](), io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=width)
    scene.play(TextSink(RichScreen(console), io.StringIO(), scene.wording))
    plain = scene.text(width).split("--- stderr ---")[0]
    assert "\x1b[" in out.getvalue()
    assert ESCAPE.sub("", out.getvalue()) == plain
    assert width < 150 or plain == scene.text().split("--- stderr ---")[0]


@pytest.mark.parametrize("width", NARROW)
def test_a_table_fits_a_common_terminal_and_loses_no_column(width: int) -> None:
    lines = forward().text(width).splitlines()
    assert max(map(len, lines)) <= width
    omitted = [line for line in reverse_omit().text(width).splitlines() if "(o" in line]
    assert omitted
    assert max(map(len, omitted)) <= width
    wide = [line.split() for line in forward().text().splitlines() if re.search(r"\d\.\d\d-\d", line)]
    short = [line.split() for line in lines if re.search(r"\d\.\d\d-\d", line)]
    assert [len(row) for row in short] == [len(row) for row in wide]


def test_a_narrow_column_loses_decimals_and_no_digits() -> None:
    assert squeezed("  0.00-1.00  ", 11) == "  0.00-1.00"
    assert [squeezed(text, 11) for text in ("100.00-110.00", "1000.00-1001.00")] == [
        *("100.0-110.0", "1000-1001"),
    ]
    assert [squeezed(text, 5) for text in ("12.34", "100.00", "1234.56", "1234567", "a long text")] == [
        *("12.34", "100.0", "1234", "1234567", "a lo~"),
    ]


def test_only_a_terminal_gets_escape_codes() -> None:
    assert isinstance(screen_for(io.StringIO()), PlainScreen)
    assert all("\x1b" not in scene().text() for scene in SCENES.values())


def test_every_style_that_a_cell_names_exists() -> None:
    lines = [Line(row, row.local) for rows in forward().intervals for row in rows]
    line_styles = {column.style(line) for column in columns_for(SceneTransport.metrics) for line in lines}
    assert line_styles - {""} <= set(STYLES)
    assert {"calm", "warn", "rate"} <= line_styles


def test_every_line_is_flushed() -> None:
    """A pipe gets an interval when it ends, not when a buffer is full."""

    # A StringIO needs no flush, so this one records the text of the last one.
    class Pipe(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    scene, pipe = forward(), Pipe()
    sink = TextSink(PlainScreen(pipe), io.StringIO())
    sink.start(scene.start)
    sink.interval(scene.intervals[0])
    assert pipe.flushed.endswith("0.00\n")
    assert "31.28" in pipe.flushed


def test_a_notice_is_a_warning_below_its_interval_and_is_not_repeated_at_the_end() -> None:
    scene, errors = forward(), io.StringIO()
    sink = TextSink(PlainScreen(io.StringIO()), errors)
    sink.start(scene.start)
    for number, rows in enumerate(scene.intervals):
        sink.interval(
            tuple(replace(row, notices=("the path shrank",) if number == 1 else ()) for row in rows)
        )
        assert errors.getvalue().count("the path shrank") == (number >= 1)
    sink.end(replace(scene.end, warnings=("the path shrank", "the window is large")))
    assert errors.getvalue().count("the path shrank") == 1
    assert errors.getvalue().count("the window is large") == 1


def test_control_characters_of_the_peer_are_replaced() -> None:
    out = io.StringIO()
    PlainScreen(out).line(("a\x1b[2Jb\rc\nd\x9be\u202ef", ""))
    assert out.getvalue() == "a?[2Jb?c?d?e?f\n"


def test_an_error_is_one_sentence_on_stderr() -> None:
    out, errors = io.StringIO(), io.StringIO()
    TextSink(PlainScreen(out), errors).error("the server refused\nthe test")
    assert (out.getvalue(), errors.getvalue()) == ("", "iperfpy: error - the server refused?the test\n")


def test_a_column_announces_its_unit_once() -> None:
    assert title_of(Metric("a", "", Unit.PERCENT, title="Lost")) == "Lost(%)"
    assert title_of(Metric("a", "", Unit.PERCENT, title="Lost(%)")) == "Lost(%)"
    assert title_of(Metric("cwnd_bytes", "", Unit.BYTES, Kind.GAUGE)) == "cwnd(KiB)"
    assert title_of(Metric("a", "", Unit.BITS_PER_SECOND, title="Pacing"), "g") == "Pacing(Gbit/s)"


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (Unit.COUNT, 0, "0"),
        (Unit.COUNT, None, "-"),
        (Unit.COUNT, 1.25, "1.25"),
        (Unit.BYTES, 2048, "2.00"),
        (Unit.PERCENT, 100 / 3, "33.33"),
        (Unit.MICROSECONDS, 165_000, "165.0"),
        (Unit.BITS_PER_SECOND, 29_810_000, "29.81"),
        (Unit.TEXT, "UP", "UP"),
    ],
)
def test_a_cell_shows_its_value_in_the_unit_of_the_column(
    unit: Unit, value: int | float | str | None, text: str
) -> None:
    assert format_value(Metric("a", "", unit), value) == text


def test_the_size_of_a_datagram_is_in_bytes_and_a_figure_has_one_unit() -> None:
    metrics = {one.key: one for one in transport("kcp").metrics}
    shown = {
        title_of(metrics[key]): format_value(metrics[key], 1400)
        for key in ("mtu_bytes", "mtu_start_bytes", "segment_payload_bytes", "queue_us_sum")
    }
    assert shown == {
        "mtu(bytes)": "1400",
        "mtu start(bytes)": "1400",
        "segment payload(bytes)": "1400",
        "queue sum(ms)": "1.40",
    }


def test_a_verbose_banner_names_settings_by_their_flags() -> None:
    kcp = transport("kcp")
    plan = Plan("kcp", KcpSettings(sndwnd=64, push=True))
    shown = list(banner(replace(start_of(), plan=plan, transport=kcp), verbose=True))
    assert shown[-1] == "Settings: --kcp-sndwnd 64, --kcp-rcvwnd 2048, --no-delay, --kcp-mode fast3"
    plan = Plan("tcp", transport("tcp").settings())
    shown = list(banner(replace(start_of(), plan=plan, transport=transport("tcp")), verbose=True))
    assert not any(line.startswith("Settings") for line in shown)


def test_small_numbers_keep_their_digits() -> None:
    assert [decimal(value) for value in (0, 0.052, 0.99, 1, 29.806)] == [
        "0.00",
        "0.052",
        "0.990",
        "1.00",
        "29.81",
    ]
    # The last two values are on either side of a change of digits.
    assert [milliseconds(us) for us in (31, 999, 4720, 9994, 9996)] == [
        "0.031",
        "0.999",
        "4.72",
        "9.99",
        "10.0",
    ]


def test_the_letter_of_the_rate_also_sets_the_unit_of_the_transfer() -> None:
    titles = {letter: [c.title for c in columns_for((), letter)[1:]] for letter in ("", "k", "G")}
    assert titles == {
        "": ["Transfer(MiB)", "Bandwidth(Mbit/s)"],
        "k": ["Transfer(KiB)", "Bandwidth(kbit/s)"],
        "G": ["Transfer(GiB)", "Bandwidth(GiB/s)"],
    }


def test_every_line_begins_with_the_title() -> None:
    scene, out = forward(), io.StringIO()
    scene.play(TextSink(PlainScreen(out), io.StringIO(), Wording(title="lab")))
    assert all(line.startswith("lab:") for line in out.getvalue().splitlines())


@pytest.mark.parametrize("logged", [False, True])
def test_a_log_and_the_report_do_not_both_give_the_reason(logged: bool) -> None:
    errors = io.StringIO()
    sink = TextSink(PlainScreen(io.StringIO()), errors, Wording(logged=logged))
    scene = SCENES["parallel-interrupted"]()
    scene.play(sink)
    assert scene.end.interrupted
    sink.error("refused")
    assert (
        errors.getvalue().count(scene.end.interrupted) == errors.getvalue().count("refused") == (not logged)
    )


def test_a_pipe_gets_the_header_once() -> None:
    out = io.StringIO()
    table = TextSink(PlainScreen(out), io.StringIO())
    scene = forward()
    table.start(scene.start)
    for number in range(300):
        table.interval((Row(1, sender(1, number, number + 1, 4)),))
    assert out.getvalue().count("[ ID]") == 1


class Resized:
    """A screen with a width that changes."""

    height: int | None = None

    def __init__(self, width: int) -> None:
        self.width: int | None = width
        self.lines: list[str] = []

    def line(self, *spans: tuple[str, str]) -> None:
        self.lines.append("".join(text for text, _ in spans).rstrip())


def test_the_table_follows_the_width_of_its_terminal() -> None:
    screen, scene = Resized(120), forward()
    table = TextSink(screen, io.StringIO())
    table.start(scene.start)
    table.interval(scene.intervals[0])
    screen.width = 60
    table.interval(scene.intervals[1])
    table.interval(scene.intervals[1])
    headers = [line for line in screen.lines if line.startswith("[ ID]")]
    assert len(headers) == 2
    assert len(headers[0]) > 100
    assert max(map(len, screen.lines[screen.lines.index(headers[1]) :])) <= 60


def test_the_first_interval_chooses_the_unit_for_the_whole_table() -> None:
    def table(*megabytes: float, letter: str = "") -> str:
        out = io.StringIO()
        sink = TextSink(PlainScreen(out), io.StringIO(), Wording(rate_letter=letter))
        sink.start(forward().start)
        for number, size in enumerate(megabytes):
            sink.interval((Row(1, sender(1, number, number + 1, size)),))
        return out.getvalue()

    # 10,000 Mbit/s are 1,192.1 MiB in a second.
    assert "Transfer(GiB)  Bandwidth(Gbit/s)" in table(1193)
    assert "Transfer(MiB)  Bandwidth(Mbit/s)" in table(1192)
    assert "Transfer(MiB)  Bandwidth(Mbit/s)" in table(1193, letter="m")
    slow_then_fast, fast_then_slow = table(1, 2400), table(2400, 1)
    assert "Gbit" not in slow_then_fast
    assert "20132.66" in slow_then_fast
    assert "Mbit" not in fast_then_slow
    assert "0.008" in fast_then_slow


@pytest.mark.parametrize(
    ("plan", "congestion", "text"),
    [
        ({}, "cubic", "Test: tcp, congestion control cubic, client to server, 10 s"),
        (
            {"direction": Direction.BIDIRECTIONAL, "parallel": 4, "omit_us": 2_000_000},
            "bbr",
            "Test: tcp, congestion control bbr, both directions at once, 4 streams each way, 10 s, "
            "after 2 s omitted",
        ),
        (
            {"direction": Direction.REVERSE, "duration_us": 0, "total_bytes": 1 << 30},
            "",
            "Test: tcp, server to client, 1.00 GiB to send",
        ),
        ({"duration_us": 0, "total_bytes": 1}, "", "Test: tcp, client to server, 1 byte to send"),
        ({"duration_us": 0, "total_blocks": 1}, "", "Test: tcp, client to server, 1 block to send"),
        ({"duration_us": 0, "total_blocks": 2}, "", "Test: tcp, client to server, 2 blocks to send"),
    ],
)
def test_one_line_names_the_test(plan: dict[str, Any], congestion: str, text: str) -> None:
    tcp = transport("tcp")
    start = replace(start_of(), plan=Plan("tcp", tcp.settings(), **plan), transport=tcp)
    assert line_of_test(start, congestion) == text


def test_a_receiver_names_the_congestion_control_once_the_sender_has_told_it() -> None:
    tcp = transport("tcp")
    plan = Plan("tcp", tcp.settings(), Direction.REVERSE)
    start = replace(start_of(Direction.REVERSE), plan=plan, transport=tcp)
    sent = sender(1, 0, 1, 4)
    told = replace(sent, values={**sent.values, "congestion": "bbr\x1b[31m"})
    out = io.StringIO()
    sink = TextSink(PlainScreen(out), io.StringIO())
    sink.start(start)
    assert "Test:" not in out.getvalue()
    sink.interval((Row(1, receiver(1, 0, 1, 4), told, Direction.REVERSE),))
    before_header = out.getvalue().split("[ ID]")[0]
    assert before_header.endswith("Test: tcp, congestion control bbr?[31m, server to client, 10 s\n")
