"""The text report in iperf3's form (`--text iperf3`), for scripts that read that.

    RunStarted --opening--> addresses and, with -V, the parameters
    Row ...    --figures--> a line each, of this end; a sum per direction if there are several streams
    RunEnded   --summary--> a client shows both ends of each stream, a server its own

`iperf3_lines` has the lines. A figure that iperf3 prints as 0 because it does not know it is not printed:
such a line says that the statistics are not available, in iperf3's words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Role
from iperfpy.protocols.metrics import Side, number
from iperfpy.protocols.units import counted
from iperfpy.records import Row, RunEnded, RunStarted, Sample, ServerOutput
from iperfpy.report import iperf3_lines as lines
from iperfpy.report.screen import Screen
from iperfpy.report.terminal import Wording
from iperfpy.sampling.host import system_info
from iperfpy.sampling.sums import by_direction, total
from iperfpy.store.iperf3_document import host_of, time_of


class Iperf3TextSink:
    """Prints a test as iperf3 does.

    Parameters
    ----------
    screen : receives the report; it must keep blanks at the end of a line
    errors : receives warnings, and the line about an early end
    """

    def __init__(self, screen: Screen, errors: Screen, wording: Wording) -> None:
        self._screen = screen
        self._errors = errors
        self._wording = wording
        self._form: _Form | None = None
        self._headed = False

    def connecting(self, options: ClientOptions) -> None:
        """Print the program's lines (-V). iperf3 names the server once it has answered."""
        if self._wording.verbose:
            self._say((lines.VERSION, system_info()))

    def start(self, start: RunStarted) -> None:
        self._form = _Form(start, self._wording)
        self._say(self._form.opening())
        self._warn(start.warnings)

    def interval(self, rows: tuple[Row, ...]) -> None:
        # The streams of one direction of --bidir may have ended before this interval began, at different
        # times: their sum would last from the first end to the last.
        rows = tuple(row for row in rows if row.local.end_us > row.local.start_us)
        if not rows:
            return
        if not self._headed:
            self._say((self._shape.heading(rows),))
            self._headed = True
        elif self._shape.start.plan.parallel > 1:
            self._say((lines.SEPARATOR,))
        for row in self._shape.with_sums(rows):
            self._say((self._shape.interval(row),))

    def left_out(self, count: int) -> None:
        """Say that so many intervals are missing here; they are part of the summary."""
        self._warn((f"{counted(count, 'interval')} left out: the output was not read in time",))

    def end(self, end: RunEnded) -> None:
        self._say(self._shape.summary(end))
        self._warn(end.warnings)
        if end.interrupted:
            self._complain(lines.failure(end.interrupted, interrupted=not end.failed))
        elif self._shape.start.role is Role.CLIENT:
            self._say(("", lines.DONE))

    def error(self, message: str) -> None:
        self._complain(lines.failure(message))

    def close(self) -> None:
        """Every line has been printed."""

    @property
    def _shape(self) -> _Form:
        if self._form is None:
            raise RuntimeError("start() comes before any other record")
        return self._form

    def _say(self, texts: Iterator[str] | Sequence[str]) -> None:
        title = f"{self._wording.title}:  " if self._wording.title else ""
        for text in texts:
            self._screen.line((title + text, ""))

    def _complain(self, text: str) -> None:
        self._errors.line((f"{lines.PROGRAM}: {text}", ""))

    def _warn(self, sentences: Sequence[str]) -> None:
        # iperf3 has no such lines: they bear this program's name, and are not on standard output.
        for sentence in sentences:
            self._errors.line((f"iperfpy: warning - {sentence}", ""))


class _Form:
    """The lines of one test: its streams, and the figures that its transport has.

    A transport is shown in the form of UDP if iperf3's JSON merges its ends (`merged_as`), any other one in
    that of TCP.
    """

    def __init__(self, start: RunStarted, wording: Wording) -> None:
        self.start = start
        self._wording = wording
        self._metrics = start.transport.metrics
        self._datagrams = bool(start.transport.iperf3.merged_as)
        self._both_ways = start.plan.direction is Direction.BIDIRECTIONAL
        self._numbers = {
            one.stream.id: lines.FIRST_STREAM + index * lines.STREAM_STEP
            for index, one in enumerate(start.connected)
        }

    # -- the beginning

    def opening(self) -> Iterator[str]:
        """The lines before the table."""
        start, plan = self.start, self.start.plan
        verbose, client = self._wording.verbose, start.role is Role.CLIENT
        if verbose and client and start.tcp_mss is not None:
            yield lines.control_mss(start.tcp_mss)
        chosen = plan.block_bytes == start.transport.block_bytes(plan.settings)
        if verbose and client and self._datagrams and chosen:
            yield lines.datagram_size(plan.block_bytes)
        if verbose:
            yield lines.time_line(time_of(start.unix_time))
        # iperf3 prints these two once the server has answered, and its server without the direction.
        host, port = host_of(start.peer), start.peer[1]
        yield lines.connecting(host, port) if client else lines.accepted(host, port)
        if client and plan.direction is Direction.REVERSE:
            yield lines.reverse(host)
        if verbose:
            yield from self._parameters()
        for one in start.connected:
            local, remote = ((host_of(each), each[1]) for each in (one.local, one.remote))
            yield lines.connected(self._numbers[one.stream.id], local, remote)
        if verbose:
            yield self._starting()

    def _parameters(self) -> Iterator[str]:
        start = self.start
        yield lines.cookie(start.cookie)
        if not self._datagrams:
            asked = start.transport.iperf3.options(start.plan.settings).mss_bytes
            yield lines.tcp_mss(asked, start.tcp_mss or 0)
        if start.plan.rate_bps:
            yield lines.target(start.plan.rate_bps)

    def _starting(self) -> str:
        plan = self.start.plan
        ends = (plan.duration_us / 1e6, "second test")
        if plan.total_bytes:
            ends = (plan.total_bytes, "bytes to send")
        elif plan.total_blocks:
            ends = (plan.total_blocks, "blocks to send")
        return lines.starting(
            protocol=plan.transport.upper(),
            streams=plan.parallel,
            block_bytes=plan.block_bytes,
            omit_s=plan.omit_us / 1e6,
            ends=ends,
            tos=plan.tos,
        )

    # -- intervals

    def heading(self, rows: Sequence[Row]) -> str:
        """The heading of the intervals, for those of this end's streams."""
        sends = any(row.local.side is Side.SENDER for row in rows)
        receives = any(row.local.side is Side.RECEIVER for row in rows)
        if self._datagrams:
            columns = lines.DATAGRAMS if receives else lines.DATAGRAMS_SENT
        else:
            known = sends and self._knows_retransmits(rows)
            columns = lines.RETRANSMITS_AND_WINDOW if known else ""
        return lines.heading(columns, roles=self._both_ways)

    def with_sums(self, rows: Sequence[Row]) -> Iterator[Row]:
        """The rows of each direction and, with several streams, their sum."""
        for group in by_direction(rows):
            yield from group
            if self.start.plan.parallel > 1:
                yield total(group, self._metrics)

    def interval(self, row: Row) -> str:
        """A line of this end's figures."""
        sample, note = row.local, lines.OMITTED if row.local.omitted else ""
        if self._datagrams:
            if sample.side is Side.SENDER:
                sent = self._count(sample, "packets")
                return self._line(row, sample, lines.sent_tail(sent, note, roles=self._both_ways))
            return self._line(row, sample, self._received(sample, note))
        # The columns are those that this sender knows: none on a system without TCP_INFO, no window in a sum.
        retransmits = self._figure(sample, "retransmits")
        window = self._figure(sample, "snd_cwnd")
        if retransmits is None:
            tail = lines.plain_tail(note)
        elif window is None or not row.stream:
            tail = lines.retransmits_tail(int(retransmits), note, is_sum=True)
        else:
            tail = lines.window_tail(int(retransmits), lines.size(window), note)
        return self._line(row, sample, tail)

    # -- the summary

    def summary(self, end: RunEnded) -> Iterator[str]:
        """The lines of the end, but for warnings and the last one."""
        yield lines.SEPARATOR
        if self._wording.verbose:
            yield lines.COMPLETE
        client = self.start.role is Role.CLIENT
        shown = [row for row in end.rows if client or row.local.side is Side.SENDER]
        columns = lines.RETRANSMITS if self._knows_retransmits(shown) else ""
        yield lines.heading(lines.DATAGRAMS if self._datagrams else columns, roles=self._both_ways)
        for index, group in enumerate(by_direction(end.rows)):
            for row in self.with_sums(group):
                yield from self._ends(row)
            if self._wording.verbose:
                yield from self._particulars(end, group)
            # With --bidir, iperf3 prints the server's report between the directions.
            if end.server_output and not index:
                yield from self._server_output(end.server_output)

    def _server_output(self, output: ServerOutput) -> Iterator[str]:
        text = output if isinstance(output, str) else json.dumps(output, indent=2)
        return lines.server_output(text.splitlines(), is_json=not isinstance(output, str))

    def _ends(self, row: Row) -> Iterator[str]:
        """The lines of both ends of a stream, or of this end alone at a server."""
        client = self.start.role is Role.CLIENT
        # A server of iperf3 has no such line for a sum of datagrams.
        says_missing = client or (self._wording.verbose and bool(row.stream or not self._datagrams))
        for side in Side:
            sample = row.of(side)
            if sample is not None and (client or side is row.local.side):
                yield self._line(row, sample, self._summary_tail(row, sample))
            elif says_missing:
                yield lines.not_available(self._numbers.get(row.stream, 0), side.value)
            late = self._count(row.local, "out_of_order")
            if self._datagrams and side is Side.SENDER and row.stream and late:
                local = row.local
                yield lines.out_of_order(self._role(row), local.start_us / 1e6, local.end_us / 1e6, late)

    def _summary_tail(self, row: Row, sample: Sample) -> str:
        side = sample.side.value
        if self._datagrams:
            if sample.side is Side.RECEIVER:
                return self._received(sample, side)
            return lines.datagrams_tail(0.0, 0, self._count(sample, "packets"), side)
        retransmits = self._figure(sample, "retransmits")
        if sample.side is Side.RECEIVER or retransmits is None:
            return lines.plain_tail(side)
        return lines.retransmits_tail(int(retransmits), side, is_sum=not row.stream)

    def _particulars(self, end: RunEnded, group: Sequence[Row]) -> Iterator[str]:
        """Processor time where this end sends, and the congestion control of the ends that are known."""
        sends = group[0].local.side is Side.SENDER
        own, other = sorted((side.value for side in Side), reverse=sends)
        here, there = (self._cpu(end, prefix) for prefix in ("host", "remote"))
        if sends:
            yield lines.processor((own, here), (other, there))
        if sends and self._both_ways:
            yield lines.processor((other, here), (own, there))
        for side, key in (("snd", "sender_tcp_congestion"), ("rcv", "receiver_tcp_congestion")):
            is_own = (side == "snd") == sends
            if (self.start.role is Role.CLIENT or is_own) and end.extra.get(key):
                yield lines.congestion(side, str(end.extra[key]))

    def _cpu(self, end: RunEnded, prefix: str) -> tuple[float, ...]:
        return tuple(end.cpu_percent.get(f"{prefix}_{part}", 0.0) for part in ("total", "user", "system"))

    # -- the pieces

    def _line(self, row: Row, sample: Sample, tail: str) -> str:
        label = lines.label(self._numbers.get(row.stream, 0), self._role(row))
        rate = lines.rate(sample.bits_per_second, self._wording.rate_letter)
        size = lines.size(sample.bytes)
        return lines.row(label, sample.start_us / 1e6, sample.end_us / 1e6, size, rate, tail)

    def _role(self, row: Row) -> str:
        if not self._both_ways:
            return ""
        way = "TX" if row.local.side is Side.SENDER else "RX"
        return f"[{way}-{self.start.role.value[0].upper()}]"

    def _received(self, sample: Sample, note: str) -> str:
        jitter_ms = self._figure(sample, "jitter_ms") or 0.0
        lost, numbered = self._count(sample, "lost_packets"), self._count(sample, "packets")
        return lines.datagrams_tail(jitter_ms, lost, numbered, note)

    def _knows_retransmits(self, rows: Sequence[Row]) -> bool:
        samples = (row.of(Side.SENDER) for row in rows)
        return any(self._figure(each, "retransmits") is not None for each in samples if each is not None)

    def _figure(self, sample: Sample, name: str) -> float | None:
        """The figure under iperf3's name and in its unit, None if this end has none."""
        for metric in self._metrics:
            if metric.iperf3 == name and metric.side is sample.side:
                value = number(sample.values.get(metric.key))
                return None if value is None else value * metric.iperf3_scale
        return None

    def _count(self, sample: Sample, name: str) -> int:
        return int(self._figure(sample, name) or 0)
