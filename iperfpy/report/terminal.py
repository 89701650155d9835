"""The text report: a banner, a line per stream and interval, a summary.

RunStarted --banner-->    the ends, the streams and, with -V, the settings; then the test in one line
Row ...    --columns.Line--> one line each, and a sum per direction
RunEnded   -->            a line per stream and end, round-trip times, with -V all figures

On a terminal the header is repeated after a screen of rows, sentences are folded at blanks, and the layout of
the table follows the width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from iperfpy import __version__
from iperfpy.diagnosis.one_run import advice_line, limit_line
from iperfpy.options import ClientOptions
from iperfpy.plan import UNSIZED_BYTES, Direction, Plan, Role
from iperfpy.plan import WAYS as PATH_WAYS
from iperfpy.protocols.addresses import named
from iperfpy.protocols.metrics import CONGESTION_KEY, Metric, Side
from iperfpy.protocols.units import counted, format_rate, format_size
from iperfpy.records import Latency, Responsiveness, Row, RunEnded, RunStarted
from iperfpy.report.columns import (
    DEFAULT_RATE_LETTER,
    Line,
    columns_for,
    format_value,
    milliseconds,
    rate_letter_for,
    title_of,
)
from iperfpy.report.screen import PlainScreen, Screen, Span, cells_of, folded, terminal_width
from iperfpy.report.table import Layout, layout_for
from iperfpy.sampling.host import system_info
from iperfpy.sampling.sums import by_direction, total
from iperfpy.store.iperf3_document import host_of, time_of

DRAFT = "draft-ietf-ippm-responsiveness-09"
BUFFERBLOAT = "95th percentile of the loaded RTT less the idle RTT"
SEPARATOR = " ".join("-" * 25)
WAYS = {
    Direction.FORWARD: "client to server",
    Direction.REVERSE: "server to client",
    Direction.BIDIRECTIONAL: "both directions at once",
}
LABEL, LABEL_WITH_ROLE = 6, 12
"""Characters before the first column: `[ ID] ` and `[ ID][Role] `."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The user's wishes for the text.

    Parameters
    ----------
    rate_letter : iperf3's -f, or empty
    title : printed before every line, or empty
    verbose : True if all figures are shown (-V)
    logged : True if a log has lines for every test and every refusal: its warnings, and how it ended
    verdict : True if two lines say what limited the test, and what to try
    """

    rate_letter: str = ""
    title: str = ""
    verbose: bool = False
    logged: bool = False
    verdict: bool = True


class TextSink:
    """Prints a test as it happens.

    Parameters
    ----------
    screen : receives the report
    errors : stream for warnings and for the closing error or interrupt line
    """

    def __init__(self, screen: Screen, errors: TextIO, wording: Wording = Wording()) -> None:
        self._screen = screen
        self._errors = errors
        self._wording = wording
        self._start: RunStarted | None = None
        self._layout = Layout(())
        self._letter = wording.rate_letter
        self._laid_out_for: int | None = None
        self._rows_below_header: int | None = None  # None: no header yet
        self._test_named = False
        self._noticed: set[str] = set()

    def connecting(self, options: ClientOptions) -> None:
        """Name the server before anything can fail with it."""
        if self._wording.verbose:
            for text in program_lines():
                self._say(text)
        self._say(f"Connecting to host {options.host}, port {options.port}")

    def start(self, start: RunStarted) -> None:
        self._start = start
        for text in banner(start, self._wording.verbose):
            self._say(text)
        self._print_warnings(start.warnings)
        # A receiver learns the sender's congestion control with the first interval.
        if congestion_of(start, ()) is not None:
            self._name_test(())

    def interval(self, rows: tuple[Row, ...]) -> None:
        shown = (*rows, *self._sums(rows))
        self._name_test(rows)
        if self._needs_header(len(shown), shown):
            self._header()
        elif len(rows) > 1:
            self._put((SEPARATOR[: self._room], ""))
        for row in shown:
            self._row(Line(row, row.local), "(omitted)" if row.local.omitted else "")
        notices = [text for row in rows for text in row.notices]
        self._noticed.update(notices)
        self._print_warnings(notices)

    def left_out(self, count: int) -> None:
        """Say that so many intervals are missing here; they are part of the summary."""
        self._say(f"({counted(count, 'interval')} left out: the output was not read in time)")

    def end(self, end: RunEnded) -> None:
        shown = (*end.rows, *self._sums(end.rows))
        self._name_test(end.rows)
        self._put((SEPARATOR[: self._room], ""))
        self._lay_out(shown)
        self._header()
        for row in shown:
            self._summary(row)
        times = end.latency
        for text in (latency_line(times), bufferbloat_line(times), responsiveness_line(times.responsiveness)):
            if text:
                self._say(text)
        if end.messages is not None:
            from iperfpy.report.message_lines import message_lines  # numpy: few tests have messages

            for text in message_lines(end.messages):
                self._say(text)
        if self._wording.verdict:
            self._conclusions(end)
        if self._wording.verbose:
            self._particulars(end)
        self._print_warnings([text for text in end.warnings if text not in self._noticed])
        for text in server_output_lines(end):
            self._put((text, ""))
        # As with iperf3, a client ends with "Done" only if the test was measured to its end.
        if end.interrupted and not self._wording.logged:
            self._complain(ended_by(end))
        elif not end.interrupted and self._started.role is Role.CLIENT:
            self._say("")
            self._say("iperfpy Done.")

    def error(self, message: str) -> None:
        if not self._wording.logged:
            self._complain(f"error - {message}")

    def close(self) -> None:
        """Every line has been printed."""

    @property
    def _started(self) -> RunStarted:
        if self._start is None:
            raise RuntimeError("start() comes before any other record")
        return self._start

    def _print_warnings(self, warnings: Sequence[str]) -> None:
        for warning in () if self._wording.logged else warnings:
            self._complain(f"warning - {warning}")

    def _complain(self, text: str) -> None:
        """Print a sentence on the stream of errors."""
        screen = PlainScreen(self._errors)
        for part in folded(f"iperfpy: {text}", terminal_width(self._errors)):
            screen.line((part, ""))

    def _say(self, text: str) -> None:
        """Print a sentence; a terminal that is too narrow gets it in several lines."""
        for part in folded(text, self._room):
            self._put((part, ""))

    @property
    def _room(self) -> int | None:
        """Characters that fit on a line after the title, None: all."""
        width = self._screen.width
        return None if width is None else max(1, width - cells_of(self._title))

    def _name_test(self, rows: Sequence[Row]) -> None:
        """Print the test in one line, once."""
        if not self._test_named:
            self._test_named = True
            self._say(test_line(self._started, congestion_of(self._started, rows) or ""))

    def _needs_header(self, rows: int, shown: Sequence[Row]) -> bool:
        """True before the first row, after a screen of rows, and in a terminal of another width."""
        if self._rows_below_header is None or self._laid_out_for != self._screen.width:
            self._lay_out(shown)
            return True
        height = self._screen.height
        if height is None:
            return False
        # Header, these rows, their separator and the status line share the screen with those before.
        needed = self._rows_below_header + rows + len(self._layout.heads()) + (1 if rows > 1 else 0) + 1
        return needed > height

    def _lay_out(self, shown: Sequence[Row]) -> None:
        """Choose the units of the table, once, and the columns for the present width."""
        self._letter = self._letter or rate_letter_for(shown)
        self._laid_out_for = self._screen.width
        started = self._started
        columns = columns_for(started.transport.metrics, self._letter, started.plan.settings.record())
        indent = cells_of(self._title) + (LABEL_WITH_ROLE if self._bidirectional else LABEL)
        self._layout = layout_for(columns, indent, self._laid_out_for)

    def _put(self, *spans: Span) -> None:
        self._screen.line((self._title, "muted"), *spans)
        if self._rows_below_header is not None:
            self._rows_below_header += 1

    @property
    def _title(self) -> str:
        return f"{self._wording.title}:  " if self._wording.title else ""

    def _header(self) -> None:
        label = "[ ID][Role] " if self._bidirectional else "[ ID] "
        for text in self._layout.heads():
            self._put((f"{label}{text}", "header"))
            label = " " * len(label)
        self._rows_below_header = 0

    def _row(self, line: Line, note: str = "", note_style: str = "muted") -> None:
        cells = [self._layout.cell(column, line) for column in self._layout.columns]
        self._put((self._label(line.row), ""), *cells, (self._layout.note(note), note_style))

    def _summary(self, row: Row) -> None:
        for side in (Side.SENDER, Side.RECEIVER):
            sample = row.of(side)
            if sample is not None:
                self._row(Line(row, sample, summary=True), side.value, _summary_style(side))
            elif self._started.role is Role.CLIENT:
                self._put((self._label(row), ""), (f"  ({side.value} figures not available)", "muted"))

    def _label(self, row: Row) -> str:
        number = f"[{row.stream:>3}]" if row.stream else "[SUM]"
        return f"{number}{self._role_tag(row)} "

    def _role_tag(self, row: Row) -> str:
        if not self._bidirectional:
            return ""
        return self._direction_tag(row.direction)

    def _direction_tag(self, direction: Direction) -> str:
        role = self._started.role
        way = "TX" if (direction is Direction.FORWARD) == (role is Role.CLIENT) else "RX"
        return f"[{way}-{role.value[0].upper()}]"

    @property
    def _bidirectional(self) -> bool:
        return self._started.plan.direction is Direction.BIDIRECTIONAL

    def _sums(self, rows: Sequence[Row]) -> list[Row]:
        """One sum per direction, when there is more than one stream to add up."""
        metrics = self._started.transport.metrics
        return [total(group, metrics) for group in by_direction(rows) if len(group) > 1]

    def _conclusions(self, end: RunEnded) -> None:
        """Print what limited each direction, and what to try."""
        for direction in (Direction.FORWARD, Direction.REVERSE):
            found = [one for one in end.findings if one.direction is direction]
            tag = f"{self._direction_tag(direction)} " if self._bidirectional else ""
            for text in (limit_line(found), advice_line(found)) if found else ():
                if text:
                    self._say(f"{tag}{text}")

    def _particulars(self, end: RunEnded) -> None:
        """Print the figures without a column: other metrics, processor time, further facts of the test."""
        start = self._started
        for group in by_direction(end.rows):
            row = total(group, start.transport.metrics)
            for text in further_figures(row, start.transport.metrics, self._letter):
                self._say(text)
        if end.cpu_percent:
            self._say(cpu_line(end, start))
        for key, value in end.extra.items():
            self._say(f"{key} {value}")


def server_output_lines(end: RunEnded) -> Iterator[str]:
    """The lines of the server's own report, if it came with the results."""
    output = end.server_output
    if output:
        yield from ("", "Server output:")
        text = output if isinstance(output, str) else json.dumps(output, indent=2)
        yield from text.splitlines()


def ended_by(end: RunEnded) -> str:
    """The reason that ended the test early, after iperf3's word for it."""
    return f"{'error' if end.failed else 'interrupt'} - {end.interrupted}"


def program_lines() -> tuple[str, str]:
    """The version of the program, and the machine."""
    return f"iperfpy {__version__}", system_info()


def banner(start: RunStarted, verbose: bool) -> Iterator[str]:
    """The lines before the table: addresses, a rate limit and, if `verbose`, the parameters of the test."""
    plan = start.plan
    if verbose:
        yield f"Time: {time_of(start.unix_time)}"
    if start.role is Role.SERVER:
        yield f"Accepted connection from {host_of(start.peer)}, port {start.peer[1]}"
    elif plan.direction is Direction.REVERSE:
        yield f"Reverse mode, remote host {host_of(start.peer)} is sending"
    if verbose:
        yield f"      Cookie: {start.cookie}"
        if start.tcp_mss is not None:
            yield f"      TCP MSS: {start.tcp_mss} (control connection)"
    # iperf3 prints the streams in this form, and scripts look for it.
    for one in start.connected:
        yield (f"[{one.stream.id:>3}] local {named(one.local)} connected to {named(one.remote)}")
    if plan.rate_bps:
        yield f"Target rate: {format_rate(plan.rate_bps)} per stream"
    if verbose:
        yield f"Starting test: {describe(start)}"
        flags = plan.settings.by_flag(start.transport.prefix).items()
        given = ", ".join(f"{flag} {value}".rstrip() for flag, value in flags)
        if given:
            yield f"Settings: {given}"


def congestion_of(start: RunStarted, rows: Sequence[Row]) -> str | None:
    """The congestion control of the test, as this end's senders, the settings, or the sender's part of the
    first rows name it. Empty: the transport has none. None: it is not known yet."""
    if all(metric.key != CONGESTION_KEY for metric in start.transport.metrics):
        return ""
    if start.congestion:
        return start.congestion
    given = start.plan.settings.record().get(CONGESTION_KEY)
    senders = (sender.values.get(CONGESTION_KEY) for row in rows if (sender := row.of(Side.SENDER)))
    return next((name for name in (given, *senders) if isinstance(name, str)), None)


def test_line(start: RunStarted, congestion: str) -> str:
    """`Test: tcp, congestion control cubic, client to server, 10 s`."""
    plan = start.plan
    parts = [plan.transport]
    if congestion:
        parts.append(f"congestion control {congestion}")
    parts.append(WAYS[plan.direction])
    if plan.parallel > 1:
        parts.append(f"{plan.parallel} streams" + (" each way" if plan.stream_count > plan.parallel else ""))
    parts.append(start.until or extent(plan))
    if plan.omit_us:
        parts.append(f"after {plan.omit_us / 1e6:g} s omitted")
    return f"Test: {', '.join(parts)}"


def extent(plan: Plan) -> str:
    """The duration or the amount that ends the test: `10 s`, `1.00 GiB to send`, `until interrupted`."""
    if plan.total_bytes == UNSIZED_BYTES:
        return "until the file ends"
    if plan.total_bytes:
        return f"{format_size(plan.total_bytes)} to send"
    if plan.total_blocks:
        return f"{counted(plan.total_blocks, 'block')} to send"
    return f"{plan.duration_us / 1e6:g} s" if plan.duration_us else "until interrupted"


def describe(start: RunStarted) -> str:
    """`protocol kcp, 2 streams, 131072-byte blocks, 10 s, omitting 1 s, type of service 0xb8`."""
    plan = start.plan
    parts = [f"protocol {plan.transport}", counted(plan.parallel, "stream")]
    parts += [f"{plan.block_bytes}-byte blocks", start.until or extent(plan)]
    if plan.omit_us:
        parts.append(f"omitting {plan.omit_us / 1e6:g} s")
    if plan.tos:
        parts.append(f"type of service {plan.tos:#04x}")
    return ", ".join(parts)


def further_figures(row: Row, metrics: Sequence[Metric], letter: str = "") -> Iterator[str]:
    """The metrics without a column, each with its meaning. A metric that is not available has no line."""
    for metric in metrics:
        sample = row.of(metric.side)
        if metric.title or sample is None or sample.values.get(metric.key) is None:
            continue
        line = Line(row, sample, summary=True)
        value = format_value(metric, line.value(metric), letter or DEFAULT_RATE_LETTER)
        yield f"  {title_of(metric, letter or DEFAULT_RATE_LETTER):<28} {value:>12}  {metric.doc}"


def latency_line(latency: Latency) -> str:
    """`RTT: 0.031 ms idle, 8.71 ms loaded (4.20 to 19.3)`, or a known part of it."""
    parts = []
    if latency.idle_rtt_us is not None:
        parts.append(f"{milliseconds(latency.idle_rtt_us)} ms idle")
    if latency.loaded_rtt_us is not None:
        low, high = latency.loaded_rtt_us_min, latency.loaded_rtt_us_max
        spread = (
            f" ({milliseconds(low)} to {milliseconds(high)})" if low is not None and high is not None else ""
        )
        parts.append(f"{milliseconds(latency.loaded_rtt_us)} ms loaded{spread}")
    return f"RTT: {', '.join(parts)}" if parts else ""


def bufferbloat_line(latency: Latency) -> str:
    """`Bufferbloat: +57.2 ms up (95th percentile of the loaded RTT less the idle RTT)`, with each direction
    that was measured; empty if none was. One test has no grade: nothing tells that its load was full."""
    found = latency.bufferbloat_us.items()
    parts = [f"+{milliseconds(increase)} ms {PATH_WAYS[direction]}" for direction, increase in found]
    return f"Bufferbloat: {', '.join(parts)} ({BUFFERBLOAT})" if parts else ""


def responsiveness_line(found: Responsiveness) -> str:
    """The responsiveness with its confidence and its halves. The half of the load alone has its own name.
    Empty if nothing was measured."""
    if found.rpm is not None and found.confidence is not None:
        halves = f"foreign {found.foreign_rpm:.0f}, loaded {found.loaded_rpm:.0f}"
        return (
            f"Responsiveness: {found.rpm:.0f} RPM, confidence {found.confidence.value.lower()}"
            f" ({halves}; {DRAFT} without HTTP, TLS)"
        )
    if found.loaded_rpm is not None:
        return f"Loaded responsiveness: {found.loaded_rpm:.0f} RPM (by the load itself, without other probes)"
    return ""


def cpu_line(end: RunEnded, start: RunStarted) -> str:
    """The processor time of both ends, in per cent of one core, as iperf3 prints it."""
    # With --bidir both ends are sender and receiver; else the peer has the side that this end has not.
    sides = {row.local.side for row in end.rows}
    local = "/".join(sorted(side.value for side in sides))
    remote = "/".join(sorted(side.value for side in Side if side not in sides or len(sides) > 1))
    text = f"CPU Utilization: local/{local} {_cpu(end, 'host')}"
    return text + (f", remote/{remote} {_cpu(end, 'remote')}" if "remote_total" in end.cpu_percent else "")


def _cpu(end: RunEnded, prefix: str) -> str:
    whole, user, system = (
        end.cpu_percent.get(f"{prefix}_{part}", 0.0) for part in ("total", "user", "system")
    )
    return f"{whole:.1f}% ({user:.1f}%u/{system:.1f}%s)"


def _summary_style(side: Side) -> str:
    return "strong" if side is Side.RECEIVER else "muted"
