"""Step 4, open: the reports that a command writes, and the consequences when one of them cannot be written.

    a report that cannot be opened     `StartError` before anything is measured
    a CSV that takes no more rows      one warning per test; the test goes on; the exit status is 1
    standard output, a full disk       one warning per test; the test goes on; the exit status is 1
    a log file, a full disk            the output goes to standard output; the exit status is 1 (process.py)
    standard output, a closed pipe     the report has no reader: a client stops; the exit status is 1
    standard output without a reader   the test goes on; rows of the table are left out, which is said
    a run that cannot be saved         one warning at the end; the exit status is 1

Every command takes its reports from here: `client_sinks` for a test, `server_sinks` for a server's tests.
All of them write in threads of their own (report/output_thread.py), and `finish` waits for these.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from iperfpy.cli.exit_status import JSON_DOCUMENT, JSON_STREAM, on_stderr, warn, write_error
from iperfpy.cli.kept_run import KeptTest, check_place, keep_test
from iperfpy.cli.log_format import formatter
from iperfpy.cli.standard_streams import abandon, share_a_file, silence_stdout, status_row
from iperfpy.endpoint.refusal_log import SERVICE
from iperfpy.errors import InterruptError, IperfpyError, StartError, system_reason
from iperfpy.options import IPERF3_TEXT, ClientOptions, OutputOptions
from iperfpy.plan import Plan
from iperfpy.protocols.units import counted
from iperfpy.records import ServerOutputSink, Sink
from iperfpy.report import iperf3_lines
from iperfpy.report.csv_columns import header
from iperfpy.report.csv_file import STDOUT, CsvFile, RowWriter, opened_csv
from iperfpy.report.csv_report import CsvSink, about_client
from iperfpy.report.end_watch import EndWatch
from iperfpy.report.guarded_sink import GuardedSink
from iperfpy.report.json_report import JsonSink, JsonStreamSink
from iperfpy.report.output_thread import FILE_ROWS, TERMINAL_ROWS, OutputThread, QueuedLog, QueuedSink
from iperfpy.report.screen import NoScreen, Screen, rich_screen, write_line
from iperfpy.report.server_output import server_output_sink
from iperfpy.report.status_line import bars_for
from iperfpy.report.status_sink import StatusSink
from iperfpy.report.terminal import Wording
from iperfpy.report.text_forms import TEXT_FORMS
from iperfpy.store.folder import Folder
from iperfpy.store.iperf3_document import INTERRUPTED


def json_of(output: OutputOptions) -> str:
    """The JSON form in which errors are reported, or empty."""
    if output.json_stream:
        return JSON_STREAM
    return JSON_DOCUMENT if output.json else ""


NO_READER = "the reader of standard output has closed it"
"""Reason of a test that stops because its report has no reader."""
SERVER_FINISH_S = 2.0
"""Longest wait of a stopped server for the reader of its standard output."""


class Outputs:
    """Makes the sinks of a command's tests.

    Parameters
    ----------
    output : the user's choice of reports
    screen : receives the report for people; None: one that suits standard output

    Attributes
    ----------
    failed : True once a part of a report was lost
    csv_path : the file of the latest CSV, or None
    stop : called, in any thread, when standard output is a pipe that its reader closed; None: the command
        goes on
    """

    def __init__(self, output: OutputOptions, screen: Screen | None = None) -> None:
        self._output = output
        self._fixed_screen = screen
        self.failed = False
        self.csv_path: Path | None = None
        self.stop: Callable[[], None] | None = None
        self._form = TEXT_FORMS[output.text]
        self._tests = 0
        self._running: set[int] = set()
        self._port: int | None = None
        self._rows: RowWriter | None = None
        self._stopped_by = ""
        self._stdout_lost = self._logs_tests = False
        self._terminal, self._files = OutputThread("terminal"), OutputThread("csv")
        self._log = OutputThread("log")

    @contextlib.contextmanager
    def client_sinks(self, plan: Plan, server: ClientOptions | None = None) -> Iterator[list[Sink]]:
        """The sinks of one test, open; they are closed, and everything is written, with the context.

        `server`: the one that a first line names, before anything can fail with it. None: no such line.
        Raises `StartError` when the CSV cannot be opened, or when no run can be saved.
        """
        if self._output.save:
            check_place(self._output.results)
        # The CSV comes first: without it nothing is printed.
        with self._csv(f"{plan.transport}-{plan.direction.value}") as rows, self._status() as status:
            sinks = [*status, *self._shown(plan.title, server, plan=plan)]
            if rows is not None:
                sinks.append(
                    self._csv_sink(rows, CsvSink(rows, about_client(plan, server) if server else None))
                )
            kept = KeptTest(plan=plan) if self._output.save else None
            if kept is not None:
                sinks.append(GuardedSink(kept, partial(self._report_fault, "the saved run")))
            try:
                yield sinks
            finally:
                for sink in sinks:
                    sink.close()
                try:
                    self.finish()
                finally:  # also after a Ctrl-C at a reader that does not read
                    if kept is not None:
                        folder, json = self._output.results, json_of(self._output)
                        self.failed |= not keep_test(kept.document, folder=folder, json=json)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Have the server's CSV open, one file for all its tests, and write everything at the end. Raises
        `StartError`."""
        with self._csv("server") as self._rows:
            try:
                yield
            except BaseException:  # a server that is told to stop waits for no reader
                self.finish(SERVER_FINISH_S)
                raise
            self.finish()
        self._rows = None

    def server_sinks(self) -> list[Sink]:
        """The sinks of one test of a server."""
        self._tests += 1
        number = self._tests
        self._running.add(number)
        # The lines of tests that run at the same time are told apart by a title; the first has none.
        title = f"test {number}" if len(self._running) > 1 else ""
        sinks = self._shown(title, None, lambda: self._test_closed(number))
        sinks[0] = EndWatch(sinks[0], self._note_stop)
        if self._rows is not None:
            sinks.append(self._csv_sink(self._rows, CsvSink(self._rows)))
        return sinks

    def finish(self, limit_s: float | None = None) -> None:
        """Wait until everything is written, at most `limit_s` for each place: a place with a reader that
        has not read by then is given up. A Ctrl-C gives standard output up at once."""
        try:
            stuck = [thread for thread in (self._files, self._terminal) if not thread.finish(limit_s)]
        except KeyboardInterrupt:
            abandon("stdout")
            raise
        if stuck:
            self.failed = True
            abandon("stdout")
            # In the thread of the log: standard error may have no reader, either.
            self._log.put(lambda: self.warn("the report was not read to its end"))
        if not self._log.finish(limit_s):
            abandon("stderr")

    def log_to_stderr(self, level: int, *, server: bool = False) -> None:
        """Write log lines of this level and above on standard error, without waiting for its reader; a
        `server` always has the lines of its tests and refusals, except in iperf3's text."""
        logging.basicConfig(level=level, handlers=[self.log_handler(server=server)])
        self._logs_tests = server and self._output.text != IPERF3_TEXT  # iperf3 has no such lines
        if self._logs_tests:
            SERVICE.setLevel(logging.INFO)

    def log_handler(self, *, server: bool) -> QueuedLog:
        """The handler of log lines. In a file that has the tables as well, a line of a server comes behind
        what was put before it; else it does not wait for the reader of standard output."""
        handler = QueuedLog(
            sys.stderr, self._log, after=self._terminal if server and share_a_file() else None
        )
        handler.setFormatter(formatter(server=server, json_stream=self._output.json_stream))
        return handler

    def reopen(self, reopen_log: Callable[[], None] | None) -> None:
        """Open the server's files again, after a rotation moved them away: the CSV and, by `reopen_log`,
        the log file, unless there is none. One that cannot be opened stays as it is, and the log says why."""

        def attempt(reopen: Callable[[], None], what: str) -> None:
            try:
                reopen()
            except (OSError, StartError) as error:
                SERVICE.warning("%s goes on with the old file: %s", what, system_reason(error))
            else:
                SERVICE.info("%s goes on in a file that was opened again", what)

        # Each file is opened in the thread that writes it.
        if reopen_log is not None:
            self._terminal.put(partial(attempt, reopen_log, "the log"))
        if isinstance(self._rows, CsvFile):
            self._files.put(partial(attempt, self._rows.reopen, "the CSV"))

    def server_output(self) -> ServerOutputSink:
        """A sink that keeps a test's report for the client that asked for it, in this server's form."""
        wording = self._wording()
        return server_output_sink(None if json_of(self._output) else self._form, wording)

    def listening(self, port: int, *, again: bool = False) -> None:
        """Print the server's port, as iperf3 does, unless standard output is JSON or CSV.

        `again`: the server goes on listening after a test.
        """
        if json_of(self._output):
            return
        if again and self._form.tells_of_each_wait:
            self._port = port
        program = self._form.program() if self._output.verbose else ()
        self._print((*program, *self._form.listening(port, self._tests + 1)))

    def _test_closed(self, number: int) -> None:
        self._running.discard(number)
        # A server that is being stopped waits for no further test.
        if self._port is not None and not self._stopped_by:
            self._print(self._form.listening(self._port, self._tests + 1))

    def _print(self, texts: Sequence[str]) -> None:
        """Print lines on standard output, in its thread."""
        screen = self._screen

        def write() -> None:
            try:
                for text in texts:
                    screen.line((text, ""))
            except OSError as error:
                self.stdout_failed(error)

        self._terminal.put(write)

    def warn(self, sentence: str) -> None:
        """Print a warning about a lost part of a report; the exit status will be 1."""
        self.failed = True
        warn(sentence, json_of(self._output))

    def stdout_failed(self, error: Exception) -> None:
        """Standard output can no longer be written: warn, or stop if its reader closed the pipe."""
        self.failed = self._stdout_lost = True
        if not isinstance(error, OSError):
            self._report_fault("the report", error)
            return
        if error.errno == errno.EPIPE or self.stop is not None:
            silence_stdout()  # but a full disk may have room again for the next test of a server
        if error.errno == errno.EPIPE and self.stop is not None:
            self.stop()
            return
        self.warn(f"the report can no longer be written: {system_reason(error)}")

    def interrupted(self, error: InterruptError) -> None:
        """Tell of the end of a server that was stopped while it ran no test, as iperf3 does: in the JSON, or
        in iperf3's text."""
        # A test that the signal ended has told of it in its own report.
        if self._stopped_by == str(error):
            return
        if form := json_of(self._output):
            write_error(f"{INTERRUPTED}{error}", form)
        elif self._output.text == IPERF3_TEXT:
            write_line(sys.stderr, f"{iperf3_lines.PROGRAM}: {INTERRUPTED}{error}")

    def _note_stop(self, sentence: str) -> None:
        self._stopped_by = sentence

    def repeat_for_people(self, error: IperfpyError) -> None:
        """Print an error on standard error if the sinks wrote it only as JSON. A JSON stream has it already,
        unless it could not be written."""
        form = json_of(self._output)
        if form == JSON_DOCUMENT or (form and self._stdout_lost):
            on_stderr("error", str(error), form)

    # -- the pieces

    @property
    def _screen(self) -> Screen:
        if self._output.csv == STDOUT:
            return NoScreen()
        return self._fixed_screen or self._form.screen(sys.stdout, self._output.timestamps)

    def _wording(self, title: str = "", *, logged: bool = False) -> Wording:
        chosen = self._output
        return Wording(chosen.rate_format, title, chosen.verbose, logged, chosen.verdict)

    def _shown(
        self,
        title: str,
        server: ClientOptions | None,
        closed: Callable[[], None] = lambda: None,
        plan: Plan | None = None,
    ) -> list[Sink]:
        """The sinks of standard output. `server`: the one that the text's first line names. `closed`: called
        when the test closes the first sink. `plan`: the test, where it is known before it starts."""
        if self._output.json_stream:
            shown = self._json_sink(JsonStreamSink(sys.stdout), closed)
            # The document that follows the lines (--json-stream-full-output).
            return [shown, self._json_sink(JsonSink(sys.stdout, plan))] if self._output.json_full else [shown]
        if self._output.json:
            return [self._json_sink(JsonSink(sys.stdout, plan), closed)]
        wording = self._wording(title, logged=self._logs_tests)
        sink = self._form.report(self._screen, sys.stderr, wording, self._output.timestamps)
        # This line precedes the guard around the sink, so its failure is handled here.
        if server is not None:
            try:
                sink.connecting(server)
            except OSError as error:
                self.warn(f"the report cannot be written: {system_reason(error)}")
                silence_stdout()
        guarded = GuardedSink(sink, self.stdout_failed)

        def left_out(count: int) -> None:
            guarded.attempt(lambda: sink.left_out(count))

        return [QueuedSink(guarded, self._terminal, TERMINAL_ROWS, left_out, closed)]

    @contextlib.contextmanager
    def _status(self) -> Iterator[list[Sink]]:
        """The sink of the status line of a client's test; none without a table on a terminal."""
        chosen = self._output
        if self._fixed_screen or json_of(chosen) or chosen.csv == STDOUT or not self._form.has_status:
            yield []
            return
        with status_row() as row:
            if row is None:
                yield []
                return
            bars, screen = bars_for(sys.stdout.encoding), rich_screen(sys.stdout)
            # If the status cannot be drawn, the table on the same terminal fails as well, and says so.
            guarded = GuardedSink(StatusSink(row, screen, self._terminal.repeat, bars), lambda error: None)
            yield [QueuedSink(guarded, self._terminal, TERMINAL_ROWS, lambda count: None)]

    def _json_sink(self, sink: Sink, closed: Callable[[], None] = lambda: None) -> Sink:
        return self._queued(sink, self._terminal, self.stdout_failed, closed)

    def _queued(
        self,
        sink: Sink,
        thread: OutputThread,
        lost: Callable[[Exception], None],
        closed: Callable[[], None] = lambda: None,
    ) -> Sink:
        """A sink for programs to read: all its rows wait to be written."""
        return QueuedSink(GuardedSink(sink, lost), thread, FILE_ROWS, self._rows_lost, closed)

    def _rows_lost(self, count: int) -> None:
        self.warn(f"the report lacks {counted(count, 'interval')}: it was not written in time")

    def _report_fault(self, which: str, error: Exception) -> None:
        """Warn of an exception in a report, which is a fault of this program; -d shows where."""
        logging.getLogger(__name__).debug("fault in %s", which, exc_info=error)
        self.warn(f"{which} has a fault: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def _csv(self, name: str) -> Iterator[RowWriter | None]:
        """The open CSV, None if the user wants none. An empty path: a new one under results/."""
        chosen = self._output
        folder = Folder(chosen.results).path
        with opened_csv(chosen.csv, header(), name=name, folder=folder, replace=chosen.csv_overwrite) as rows:
            if isinstance(rows, CsvFile):
                self.csv_path = rows.path
            yield rows

    def _csv_sink(self, rows: RowWriter, sink: CsvSink) -> Sink:
        """The sink, guarded: rows that cannot be written end the CSV of this test, and not the test."""

        def lost(error: Exception) -> None:
            if not isinstance(error, OSError):
                self._report_fault("the CSV", error)
                return
            reason = system_reason(error)
            self.warn(f"no more rows of this test go to {rows.name}: {reason}; the test continues")

        if self._output.csv == STDOUT:
            return self._queued(sink, self._terminal, self.stdout_failed)
        return self._queued(sink, self._files, lost)
