"""Step 4, open: the reports that a command writes, and the consequences when one of them cannot be written.

    a report that cannot be opened     `StartError` before anything is measured
    a CSV that takes no more rows      one warning per test; the test goes on; the exit status is 1
    standard output, a full disk       one warning; the test goes on; the exit status is 1
    standard output, a closed pipe     the report has no reader: a client stops; the exit status is 1

Every command takes its reports from here: `client_sinks` for a test, `server_sinks` for a server's tests.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from iperfpy.cli.exit_status import JSON_DOCUMENT, JSON_STREAM, complain, silence_stdout
from iperfpy.errors import IperfpyError, StartError, system_reason
from iperfpy.options import ClientOptions, OutputOptions
from iperfpy.plan import Plan
from iperfpy.records import ServerOutputSink, Sink
from iperfpy.report.csv_columns import header
from iperfpy.report.csv_file import CsvFile, CsvStream, RowWriter, open_generated
from iperfpy.report.csv_report import CsvSink
from iperfpy.report.guarded_sink import GuardedSink
from iperfpy.report.json_report import JsonSink, JsonStreamSink
from iperfpy.report.screen import NoScreen, Screen, screen_for
from iperfpy.report.server_output import server_output_sink
from iperfpy.report.terminal import TextSink, Wording, program_lines

STDOUT = "-"
"""The name of the CSV that stands for standard output."""


def json_of(output: OutputOptions) -> str:
    """The JSON form in which errors are reported, or empty."""
    if output.json_stream:
        return JSON_STREAM
    return JSON_DOCUMENT if output.json else ""


class Outputs:
    """Makes the sinks of a command's tests. `failed` is True once one of them lost a part of its report;
    `csv_path` is the file of the latest CSV, or None.

    Parameters
    ----------
    output : the user's choice of reports
    stop : called when standard output is a pipe that its reader closed; None: the command goes on
    screen : receives the report for people; None: one that suits standard output
    """

    def __init__(
        self, output: OutputOptions, stop: Callable[[], None] | None = None, screen: Screen | None = None
    ) -> None:
        self._output = output
        self._stop = stop
        self._fixed_screen = screen
        self.failed = False
        self.csv_path: Path | None = None
        self._tests = 0
        self._running: set[int] = set()
        self._rows: RowWriter | None = None

    @contextlib.contextmanager
    def client_sinks(self, plan: Plan, server: ClientOptions | None = None) -> Iterator[list[Sink]]:
        """The sinks of one test, open; they are closed with the context.

        `server`: the one that a first line names, before anything can fail with it. None: no such line.
        Raises `StartError` when the CSV cannot be opened.
        """
        # The CSV comes first: without it nothing is printed.
        with self._csv(f"{plan.transport}-{plan.direction.value}") as rows:
            shown = GuardedSink(self._shown(plan.title, server), self.stdout_failed)
            sinks: list[Sink] = [shown, *self._whole_document()]
            if rows is not None:
                sinks.append(self._csv_sink(rows, CsvSink(rows, (plan, server) if server else None)))
            try:
                yield sinks
            finally:
                for sink in sinks:
                    sink.close()

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Have the server's CSV open: one file for all its tests. Raises `StartError`."""
        with self._csv("server") as self._rows:
            yield
        self._rows = None

    def server_sinks(self) -> list[Sink]:
        """The sinks of one test of a server."""
        self._tests += 1
        number = self._tests
        self._running.add(number)
        # The lines of tests that run at the same time are told apart by a title; the first has none.
        title = f"test {number}" if len(self._running) > 1 else ""
        shown = GuardedSink(
            self._shown(title, None), self.stdout_failed, lambda: self._running.discard(number)
        )
        sinks: list[Sink] = [shown, *self._whole_document()]
        if self._rows is not None:
            sinks.append(self._csv_sink(self._rows, CsvSink(self._rows)))
        return sinks

    def server_output(self) -> ServerOutputSink:
        """A sink that keeps a test's report for the client that asked for it, in this server's form."""
        wording = Wording(self._output.rate_format, "", self._output.verbose)
        return server_output_sink(wording, as_json=bool(json_of(self._output)))

    def listening(self, port: int) -> None:
        """Print the server's port, as iperf3 does, unless standard output is JSON or CSV."""
        if json_of(self._output):
            return
        rule = "-" * 59
        program = program_lines() if self._output.verbose else ()
        try:
            for text in (*program, rule, f"Server listening on {port}", rule):
                self._screen.line((text, ""))
        except OSError as error:
            self.stdout_failed(error)

    def warn(self, sentence: str) -> None:
        """Print a warning about a lost part of a report; the exit status will be 1."""
        self.failed = True
        with contextlib.suppress(OSError):  # standard error is gone as well: no place is left for the warning
            print(f"iperfpy: warning - {sentence}", file=sys.stderr, flush=True)

    def stdout_failed(self, error: OSError) -> None:
        """Standard output can no longer be written: warn, or stop if its reader closed the pipe."""
        self.failed = True
        silence_stdout()
        if error.errno == errno.EPIPE and self._stop is not None:
            self._stop()
            return
        self.warn(f"the report can no longer be written: {system_reason(error)}")

    def repeat_for_people(self, error: IperfpyError) -> None:
        """Print an error on standard error if the sinks wrote it only as JSON."""
        if json_of(self._output):
            complain(str(error))

    # -- the pieces

    @property
    def _screen(self) -> Screen:
        if self._output.csv == STDOUT:
            return NoScreen()
        return self._fixed_screen or screen_for(sys.stdout, self._output.timestamps)

    def _shown(self, title: str, server: ClientOptions | None) -> Sink:
        """The sink of standard output. `server`: the one that the text's first line names."""
        if self._output.json_stream:
            return JsonStreamSink(sys.stdout)
        if self._output.json:
            return JsonSink(sys.stdout)
        wording = Wording(self._output.rate_format, title, self._output.verbose)
        sink = TextSink(self._screen, sys.stderr, wording)
        # This line precedes the guard around the sink, so its failure is handled here.
        if server is not None:
            try:
                sink.connecting(server)
            except OSError as error:
                self.warn(f"the report cannot be written: {system_reason(error)}")
                silence_stdout()
        return sink

    def _whole_document(self) -> list[Sink]:
        """The document that follows the lines of a JSON stream (--json-stream-full-output)."""
        return [GuardedSink(JsonSink(sys.stdout), self.stdout_failed)] if self._output.json_full else []

    @contextlib.contextmanager
    def _csv(self, name: str) -> Iterator[RowWriter | None]:
        """The open CSV, None if the user wants none. An empty path: a new one under results/."""
        path = self._output.csv
        if path is None or path == STDOUT:
            yield None if path is None else CsvStream(sys.stdout, header())
            return
        try:
            if path:
                file = CsvFile(Path(path), header(), replace=self._output.csv_overwrite)
            else:
                file = open_generated(name, header(), time.time())
        except OSError as error:
            raise StartError(f"cannot write the CSV: {system_reason(error)}") from error
        self.csv_path = file.path
        try:
            yield file
        finally:
            file.close()

    def _csv_sink(self, rows: RowWriter, sink: CsvSink) -> Sink:
        """The sink, guarded: rows that cannot be written end the CSV of this test, and not the test."""

        def lost(error: OSError) -> None:
            reason = system_reason(error)
            self.warn(f"no more rows of this test go to {rows.name}: {reason}; the test continues")

        return GuardedSink(sink, self.stdout_failed if self._output.csv == STDOUT else lost)
