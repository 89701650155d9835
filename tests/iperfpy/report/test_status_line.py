"""The status line: its content in virtual time, and a terminal that shows it below everything else.

`pyte` stands for the terminal. It runs the escape sequences, so a row that is not erased stays on its screen.
"""

from __future__ import annotations

import io
import itertools
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyte
import pytest
from rich.console import Console

from iperfpy.cli.outputs import Outputs
from iperfpy.options import IPERF3_TEXT, OutputOptions
from iperfpy.plan import UNSIZED_BYTES, Direction, Role
from iperfpy.records import Row, RunStarted, Sample
from iperfpy.report.output_thread import OutputThread
from iperfpy.report.screen import PlainScreen, RichScreen
from iperfpy.report.status_line import ASCII_BARS, MOST_BARS, StatusLine, bars_for
from iperfpy.report.status_row import StatusRow, can_have_row
from iperfpy.report.status_sink import StatusSink
from iperfpy.report.terminal import TextSink, Wording
from tests.iperfpy.report.scenes import SCENES, forward, receiver, sender, start_of


def started(**changes: Any) -> RunStarted:
    start = start_of(changes.pop("direction", Direction.FORWARD), changes.pop("role", Role.CLIENT))
    return replace(start, plan=replace(start.plan, **changes))


def text_of(line: StatusLine, now_s: float, width: int = 79) -> str:
    return "".join(text for text, _ in line.spans(now_s, width))


def rates(line: StatusLine, *megabytes: float, from_s: float = 100.0) -> None:
    """Give the line one interval of a second after the other."""
    for number, size in enumerate(megabytes):
        line.take((Row(1, sender(1, number, number + 1, size)),), from_s + number + 1)


def test_the_line_has_time_bars_and_the_rest() -> None:
    line = StatusLine(started(duration_us=30_000_000), 100.0)
    assert text_of(line, 100.0) == " 0/30 s - 30 s left"
    rates(line, 1, 2, 4, 8, 0)
    assert text_of(line, 105.4) == " 5/30 s ▁▂▄█_ 25 s left"


def test_the_time_goes_on_by_the_local_clock() -> None:
    line = StatusLine(started(duration_us=10_000_000), 100.0)
    rates(line, 8)
    assert [text_of(line, now_s) for now_s in (102.0, 107.9, 110.0, 123.0)] == [
        " 2/10 s █ 8 s left",
        " 7/10 s █ 3 s left",
        " 10/10 s █ ending",
        " 23/10 s █ ending",
    ]
    assert line.next_change_s(107.75) == pytest.approx(0.25)


def test_the_first_interval_tells_when_data_began_to_flow() -> None:
    """A test begins some round trips after the sinks hear of it."""
    line = StatusLine(started(duration_us=10_000_000, omit_us=2_000_000), 90.0)
    line.take((Row(1, replace(sender(1, 0, 1, 4), omitted=True)),), 101.5)
    assert text_of(line, 102.5) == " 2/12 s █ 10 s left"
    # A later one that came sooner is nearer to the truth; the omitted time counts.
    line.take((Row(1, sender(1, 0, 1, 4)),), 103.0)
    assert text_of(line, 103.0) == " 3/12 s ██ 9 s left"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"duration_us": 0, "total_bytes": 10 << 20}, "3 s ███ 4.00 MiB left"),
        ({"duration_us": 0, "total_blocks": 48}, "3 s ███ ending"),
        ({"duration_us": 0}, "3 s ███ until Ctrl-C"),
        ({"duration_us": 0, "total_bytes": UNSIZED_BYTES}, "3 s ███ - left"),
        ({"duration_us": 2_500_000}, "3/2.5 s ███ ending"),
        ({"duration_us": 7_200_000_000}, "0:00:03/2:00:00 ███ 1:59:57 left"),
        ({"duration_us": 900_000_000}, "0:03/15:00 ███ 14:57 left"),
    ],
)
def test_every_kind_of_end_has_its_rest(changes: dict[str, int], text: str) -> None:
    line = StatusLine(started(**changes), 100.0)
    rates(line, 2, 2, 2)
    assert text_of(line, 103.0).strip() == text


def test_an_amount_does_not_count_the_omitted_time() -> None:
    line = StatusLine(started(duration_us=0, total_bytes=10 << 20, omit_us=1_000_000), 100.0)
    assert text_of(line, 100.0) == " 0 s - 10.0 MiB left"
    line.take((Row(1, replace(sender(1, 0, 1, 4), omitted=True)),), 101.0)
    assert text_of(line, 101.0) == " 1 s █ 10.0 MiB left"


def test_an_unknown_rate_is_a_dash_and_none_is_zero() -> None:
    line = StatusLine(started(duration_us=10_000_000), 100.0)
    unmeasured = Sample(1, Row(1, sender(1, 0, 1, 1)).local.side, 1_000_000, 1_000_500, 900)
    line.take((Row(1, sender(1, 0, 1, 4)),), 101.0)
    line.take((Row(1, unmeasured),), 101.0)
    line.take((Row(1, sender(1, 1.0005, 2, 0)),), 102.0)
    spans = line.spans(102.0, 79)
    assert [span for span in spans if span[0] and span[0] in "█-_"] == [
        ("█", "calm"),
        ("-", "muted"),
        ("_", "alarm"),
    ]


def test_both_directions_have_their_bars() -> None:
    line = StatusLine(started(direction=Direction.BIDIRECTIONAL, duration_us=10_000_000), 100.0)
    for number in range(40):
        line.take(
            (
                Row(1, sender(1, number, number + 1, 4)),
                Row(3, receiver(3, number, number + 1, number % 3), None, Direction.REVERSE),
            ),
            101.0 + number,
        )
    text = text_of(line, 140.0)
    assert re.fullmatch(r" 40/10 s TX █+ RX [█▄_]+ ending", text)
    assert len(text) <= 79
    assert text.count("█") > 25


def test_bars_take_the_room_that_is_left_up_to_60() -> None:
    line = StatusLine(started(duration_us=99_000_000), 100.0)
    rates(line, *itertools.repeat(4, 99))
    lengths = {width: text_of(line, 150.0, width).count("█") for width in (199, 79, 59, 39, 24)}
    assert lengths == {199: MOST_BARS, 79: 60, 59: 40, 39: 20, 24: 5}
    # Without room for the fewest bars there are none.
    assert text_of(line, 150.0, 20) == " 50/99 s 49 s left"


def test_a_terminal_without_blocks_gets_ascii() -> None:
    assert bars_for("utf-8") == "▁▂▃▄▅▆▇█"
    assert bars_for("ascii") == bars_for("latin-1") == bars_for(None) == bars_for("nonsense") == ASCII_BARS
    assert not set(ASCII_BARS) & set("_- ")
    assert len(ASCII_BARS) == 8


def once(tick: Callable[[], float | None]) -> None:
    """Stand for `OutputThread.repeat`: the test itself decides when time goes on."""
    tick()


class Terminal:
    """A terminal of `columns` x `lines`, with a status row below everything that `out` and `errors` print."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.out, self.errors = io.StringIO(), io.StringIO()
        self.foreground = True
        self.row = StatusRow(self._shared(), lambda: self.foreground)
        self._seen = 0
        self.columns, self.lines = columns, lines
        self.screen = pyte.HistoryScreen(columns, lines, history=500)
        self._stream = pyte.Stream(self.screen)

    def _shared(self) -> io.StringIO:
        return self.out

    def display(self) -> list[str]:
        """The lines that the terminal shows now and has scrolled away, without trailing blanks."""
        self._stream.feed(self.out.getvalue()[self._seen :].replace("\n", "\r\n"))
        self._seen = len(self.out.getvalue())
        past = ["".join(line[x].data for x in range(self.columns)) for line in self.screen.history.top]
        lines = [line.rstrip() for line in (*past, *self.screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def reports(
        self, clock_s: Callable[[], float], wording: Wording | None = None
    ) -> tuple[StatusSink, TextSink]:
        """The sinks of a client on this terminal."""
        stream = self.row.beside(self.out)
        console = Console(
            file=stream, force_terminal=True, color_system="truecolor", width=self.columns, height=self.lines
        )
        screen = RichScreen(console)
        status = StatusSink(self.row, screen, once, clock_s=clock_s)
        return status, TextSink(screen, stream, wording or Wording())


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("name", SCENES)
def test_a_test_leaves_its_report_on_the_terminal_and_no_status(name: str, columns: int) -> None:
    terminal, scene, clock = Terminal(columns, 60), SCENES[name](), itertools.count(100.0)
    status, table = terminal.reports(lambda: next(clock), scene.wording)
    status.start(scene.start)
    table.start(scene.start)
    assert " s " in terminal.display()[-1]
    for rows in scene.intervals:
        status.interval(rows)
        table.interval(rows)
        assert re.search(r" left$| ending$", terminal.display()[-1])
    status.end(scene.end)
    table.end(scene.end)
    shown = [line.rstrip() for line in terminal.display()]
    out, errors = io.StringIO(), io.StringIO()
    scene.play(TextSink(PlainScreen(out, columns), out, scene.wording))
    printed = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
    assert errors.getvalue() == ""
    if columns >= 60:  # no line of these reports is longer
        assert [line for line in shown if line.strip()] == printed
    assert "left" not in "".join(shown).replace("left out", "")


def test_another_stream_of_the_terminal_prints_above_the_row() -> None:
    terminal = Terminal()
    errors = terminal.row.beside(terminal.out)
    terminal.row.show("the status")
    assert terminal.display() == ["the status"]
    print("a warning", file=errors, flush=True)
    assert terminal.display() == ["a warning", "the status"]
    errors.write("a line")
    terminal.row.show("another status")
    assert terminal.display() == ["a warning", "a line"]
    errors.write(" in two parts\n")
    assert terminal.display() == ["a warning", "a line in two parts", "another status"]
    terminal.row.clear()
    assert terminal.display() == ["a warning", "a line in two parts"]
    assert (errors.encoding, errors.isatty()) == (terminal.out.encoding, False)


def test_each_change_of_the_terminal_is_one_write() -> None:
    """Output of other processes then never lands inside the row."""
    writes: list[str] = []

    class Recording(io.StringIO):
        def write(self, text: str, /) -> int:
            writes.append(text)
            return len(text)

    stream = Recording()
    row = StatusRow(stream)
    row.show("status")
    row.beside(stream).write("a line\n")
    row.clear()
    drawn = "\x1b[?7lstatus\x1b[?7h\r"
    assert writes == [drawn, f"\r\x1b[Ja line\n{drawn}", "\r\x1b[J"]


def test_the_row_is_not_drawn_over_another_job() -> None:
    terminal = Terminal()
    stream = terminal.row.beside(terminal.out)
    terminal.row.show("status")
    terminal.foreground = False
    before = terminal.out.getvalue()
    stream.write("a row\n")
    terminal.row.show("status 2")
    assert terminal.out.getvalue() == f"{before}a row\n"
    terminal.foreground = True
    terminal.row.show("status 3")
    assert terminal.out.getvalue().endswith("status 3\x1b[?7h\r")


def test_the_header_comes_again_after_a_screen_of_rows() -> None:
    terminal, clock = Terminal(80, 10), itertools.count(100.0)
    status, table = terminal.reports(lambda: next(clock))
    scene = forward()
    status.start(scene.start)
    table.start(scene.start)
    for number in range(30):
        row = (Row(1, sender(1, number, number + 1, 4)),)
        status.interval(row)
        table.interval(row)
        # The header of the newest row is on the screen, and so is the status.
        terminal.display()
        visible = [line.rstrip() for line in terminal.screen.display]
        assert any(line.startswith("[ ID]") for line in visible)
        assert any("left" in line or "ending" in line for line in visible)
    headers = [at for at, line in enumerate(terminal.display()) if line.startswith("[ ID]")]
    assert [after - at for at, after in itertools.pairwise(headers)] == [9, 9, 9, 9]


def test_without_colour_only_the_colour_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> str:
        console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
        line = StatusLine(started(duration_us=10_000_000), 100.0)
        rates(line, 4, 0)
        return RichScreen(console).rendered(*line.spans(102.0, 79))

    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = drawn()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = drawn()
    assert "\x1b[32m" in coloured  # green bars
    assert set(re.findall(r"\x1b\[([\d;]*)m", plain)) <= {"0", "1", "2"}  # reset, bold, dim
    strip = re.compile(r"\x1b\[[\d;]*m")
    assert strip.sub("", coloured) == strip.sub("", plain) == " 2/10 s █_ 8 s left"


@pytest.mark.parametrize(
    ("term", "is_terminal", "able"),
    [("xterm", True, True), ("xterm", False, False), ("dumb", True, False), ("", True, False)],
)
def test_only_a_terminal_that_moves_its_cursor_has_a_row(
    term: str, is_terminal: bool, able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setenv("TERM", term)
    assert can_have_row(Stream()) is able


@pytest.mark.parametrize(
    ("output", "term", "sinks"),
    [
        (OutputOptions(), "xterm", 2),
        (OutputOptions(timestamps="%T "), "xterm", 2),
        (OutputOptions(), "dumb", 1),
        (OutputOptions(json=True), "xterm", 1),
        (OutputOptions(json_stream=True), "xterm", 1),
        (OutputOptions(csv="-"), "xterm", 2),  # the rows, and a table that prints nothing
        (OutputOptions(text=IPERF3_TEXT), "xterm", 1),
    ],
)
def test_only_a_table_on_a_terminal_has_a_status(
    output: OutputOptions, term: str, sinks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pseudo(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", term)
    stream = Pseudo()
    monkeypatch.setattr("sys.stdout", stream)
    with Outputs(output).client_sinks(start_of().plan, None) as made:
        assert len(made) == sinks
        is_below = sys.stdout is not stream
        for sink in made:
            sink.start(start_of())
    assert sys.stdout is stream
    assert ("\x1b[?7l" in stream.getvalue()) is is_below is (sinks == 2 and output.csv is None)


def test_a_status_that_cannot_be_drawn_leaves_the_thread_to_the_table() -> None:
    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError("no room")

    calls: list[float | None] = []
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    sink = StatusSink(StatusRow(Full()), RichScreen(console), lambda tick: calls.append(tick()))
    sink.start(forward().start)
    assert calls == [None]


def test_the_output_thread_repeats_a_job_between_the_others() -> None:
    thread, calls = OutputThread("test"), iter((0.001, 0.001, None))
    done: list[object] = []
    last = threading.Event()

    def job() -> float | None:
        done.append("tick")
        again_s = next(calls)
        if again_s is None:
            last.set()
        return again_s

    thread.put(lambda: thread.repeat(job))
    assert last.wait(20), "the thread needs no further job for its repetitions"
    thread.put(lambda: done.append("end"))
    assert thread.finish()
    assert done == ["tick", "tick", "tick", "end"]


def test_a_due_repetition_is_not_held_up_by_a_full_queue() -> None:
    thread, ticks = OutputThread("test"), []

    def job() -> float | None:
        ticks.append(1)
        return 0.0

    thread.put(lambda: thread.repeat(job))
    for _ in range(50):
        thread.put(lambda: None)
    thread.finish()
    assert len(ticks) >= 50


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich reads these variables, which a terminal of the developer may have set."""
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


class Interrupted(io.StringIO):
    """A terminal where a signal handler hides the row of the thread that is drawing it, once."""

    row: StatusRow | None = None

    def flush(self) -> None:
        row, self.row = self.row, None
        if row is not None:
            with row.hidden():
                self.hidden_at = self.tell()


def test_a_signal_handler_hides_the_row_that_its_own_thread_is_drawing() -> None:
    terminal = Interrupted()
    row = terminal.row = StatusRow(terminal)
    row.show("drawn 1")
    screen = pyte.Screen(80, 4)
    stream = pyte.Stream(screen)
    stream.feed(terminal.getvalue()[: terminal.hidden_at])
    assert not any(line.strip() for line in screen.display)
    row.show("2")
    stream.feed(terminal.getvalue()[terminal.hidden_at :])
    assert [line.strip() for line in screen.display] == ["2", "", "", ""]
