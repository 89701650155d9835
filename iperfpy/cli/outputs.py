"""Runs what the command line asked for: opens the reports first, then the test, then says how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from iperfpy.cli.main import FAILED, complain, silence_stdout
from iperfpy.cli.process import daemonize, logging_to, pid_file, run_on
from iperfpy.cli.request import Request
from iperfpy.errors import InterruptError, IperfpyError, StartError
from iperfpy.options import ClientOptions, OutputOptions, ServerOptions
from iperfpy.plan import Plan, Role
from iperfpy.records import ServerOutputSink, Sink
from iperfpy.report.csv_report import CsvFile, CsvSink, open_default, reason
from iperfpy.report.guarded_sink import GuardedSink
from iperfpy.report.json_report import JsonSink, JsonStreamSink
from iperfpy.report.screen import Screen, screen_for
from iperfpy.report.server_output import server_output_sink
from iperfpy.report.terminal import TextSink, Wording, program_lines

if TYPE_CHECKING:
    from iperfpy.runtime.abort_scope import AbortScope

STOPPED_TWICE = 130


def run(request: Request) -> int:
    """The exit status: 0 only when everything was measured and everything was written."""
    process = request.process
    try:
        with logging_to(process.log_file):
            on_ready = daemonize() if process.daemon else _nobody_waits
            if isinstance(on_ready, int):
                return on_ready
            with pid_file(process.pid_file):
                run_on(process.cpu)
                return run_here(request, on_ready)
    except StartError as error:
        return complain(str(error), _as_flags(request.output))


def _nobody_waits() -> None:
    """For a server that is no daemon."""


def run_here(request: Request, on_ready: Callable[[], None]) -> int:
    """The same in this process; `on_ready` is called once a server listens."""
    if request.process.debug:
        logging.basicConfig(level=logging.DEBUG, format="iperfpy: %(message)s")
    if request.plan is not None and request.client is not None:
        return run_client(request.plan, request.client, request.output)
    assert request.server is not None, "the command line makes a client or a server"
    return run_server(request.server, request.output, on_ready)


def run_client(plan: Plan, options: ClientOptions, output: OutputOptions) -> int:
    """See whether this machine can, open the CSV, then measure."""
    from iperfpy.endpoint import client
    from iperfpy.runtime import event_loop
    from iperfpy.runtime.signals import until_signalled

    reports = Reports(output, stop=lambda: signal.raise_signal(signal.SIGINT))
    try:
        client.check_here(plan, options)
        csv = reports.open_csv(plan)
    except OSError as error:
        return complain(f"cannot write the CSV: {reason(error)}", _as_flags(output))
    except IperfpyError as error:
        return complain(str(error), _as_flags(output))
    sinks = reports.client_sinks(plan, options, csv)
    try:
        # What cannot be reported need not be measured.
        status = FAILED
        if not reports.failed:
            event_loop.run(
                until_signalled(
                    Role.CLIENT, lambda scope: client.run_client(plan, options, sinks, scope=scope)
                )
            )
            status = 0
    except InterruptError as error:
        status = error.exit_status
    except IperfpyError as error:
        status = error.exit_status
        reports.failure(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        status = _stopped_twice()
    finally:
        for sink in sinks:
            sink.close()
        if csv is not None:
            csv.close()
    return status or int(reports.failed)


def run_server(
    options: ServerOptions, output: OutputOptions, on_ready: Callable[[], None] = _nobody_waits
) -> int:
    """Serve until told to stop, or for one test."""
    from iperfpy.endpoint import server
    from iperfpy.runtime import event_loop
    from iperfpy.runtime.signals import until_signalled

    reports = Reports(output)
    if output.verbose:
        logging.basicConfig(level=logging.INFO, format="iperfpy: %(message)s")
    try:
        reports.check_csv()

        def listening(port: int) -> None:
            reports.listening(port)
            on_ready()

        def serving(scope: AbortScope) -> Awaitable[bool]:
            return server.run_server(
                options,
                reports.server_sinks,
                on_listening=listening,
                make_server_output=reports.server_output,
                scope=scope,
            )

        status = 0 if event_loop.run(until_signalled(Role.SERVER, serving)) else FAILED
    except OSError as error:
        return complain(f"cannot write the CSV: {reason(error)}", _as_flags(output))
    except IperfpyError as error:
        status = complain(str(error), _as_flags(output)) if error.exit_status else 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        status = _stopped_twice()
    return status or int(reports.failed)


def _stopped_twice() -> int:
    print(
        "iperfpy: interrupt - stopped by a second signal, before the end was in good order", file=sys.stderr
    )
    return STOPPED_TWICE


def _as_flags(output: OutputOptions) -> list[str]:
    """The flags that decide in which forms `complain` says its sentence."""
    return [*(["-J"] if output.json else []), *(["--json-stream"] if output.json_stream else [])]


class Reports:
    """Makes the sinks of a test and remembers whether one of them lost anything."""

    def __init__(self, output: OutputOptions, stop: Callable[[], None] | None = None) -> None:
        self._output = output
        self._stop = stop
        self.failed = False
        self.tests = 0
        self._running: set[int] = set()

    def warn(self, sentence: str) -> None:
        """Say once, on stderr, what was lost; the exit status will say so too."""
        self.failed = True
        with contextlib.suppress(OSError):  # without a stderr there is nobody left to tell
            print(f"iperfpy: warning - {sentence}", file=sys.stderr, flush=True)

    def lost(self, error: OSError) -> None:
        """Standard output takes no more. When a client's pipe is closed, nobody waits for the rest: stop."""
        self.failed = True
        silence_stdout()
        if error.errno == errno.EPIPE and self._stop is not None:
            self._stop()
            return
        self.warn(f"the report can no longer be written: {reason(error)}")

    def failure(self, error: IperfpyError) -> None:
        """The sinks have said it; where they speak JSON, people are told too."""
        if self._output.json or self._output.json_stream:
            complain(str(error))

    def client_sinks(self, plan: Plan, options: ClientOptions, csv: CsvFile | None) -> list[Sink]:
        """The reports of one test at the client, whose CSV is open already."""
        sinks: list[Sink] = [GuardedSink(self._shown(plan.title, options), self.lost), *self._full()]
        if csv is not None:
            sinks.append(self._csv_sink(csv))
        return sinks

    def server_sinks(self) -> list[Sink]:
        """The reports of one test at the server: every test has a CSV of its own."""
        self.tests += 1
        number = self.tests
        self._running.add(number)
        # Of tests that run at the same time, the first prints as if it were alone.
        title = f"test {number}" if len(self._running) > 1 else ""
        shown = GuardedSink(self._shown(title, None), self.lost, lambda: self._running.discard(number))
        sinks: list[Sink] = [shown, *self._full()]
        if self._output.csv is not None:
            sinks.append(CsvSink(lambda plan: self._open_numbered(plan, number), self.warn))
        return sinks

    def server_output(self) -> ServerOutputSink:
        """The report of one test for the client that asks for it, in the form that this server has."""
        wording = Wording(self._output.rate_format, "", self._output.verbose)
        return server_output_sink(wording, as_json=self._output.json or self._output.json_stream)

    def listening(self, port: int) -> None:
        """Say where, as iperf3 does, where people read."""
        if not self._output.json and not self._output.json_stream:
            rule = "-" * 59
            screen = self._screen()
            try:
                told = program_lines() if self._output.verbose else ()
                for text in (*told, rule, f"Server listening on {port}", rule):
                    screen.line((text, ""))
            except OSError as error:
                self.lost(error)

    def _screen(self) -> Screen:
        return screen_for(sys.stdout, self._output.timestamps)

    def open_csv(self, plan: Plan) -> CsvFile | None:
        """The client's CSV, opened before the test starts. Raises OSError."""
        path = self._output.csv
        if path is None:
            return None
        return CsvFile(Path(path)) if path else open_default(plan, time.time())

    def check_csv(self) -> None:
        """At a server, whose files are opened test by test: whether the first one can be. Raises OSError."""
        if self._output.csv:
            CsvFile(Path(self._output.csv)).close()

    def _open_numbered(self, plan: Plan, test_number: int) -> CsvFile:
        path = Path(self._output.csv or "")
        if not self._output.csv:
            return open_default(plan, time.time())
        return CsvFile(path if test_number == 1 else path.with_stem(f"{path.stem}-{test_number}"))

    def _csv_sink(self, file: CsvFile) -> CsvSink:
        return CsvSink(lambda plan: file, self.warn)

    def _full(self) -> list[Sink]:
        """The document that follows the lines of a JSON stream, when it was asked for."""
        return [GuardedSink(JsonSink(sys.stdout), self.lost)] if self._output.json_full else []

    def _shown(self, title: str, connecting: ClientOptions | None) -> Sink:
        """What goes to standard output."""
        if self._output.json_stream:
            return JsonStreamSink(sys.stdout)
        if self._output.json:
            return JsonSink(sys.stdout)
        wording = Wording(self._output.rate_format, title, self._output.verbose)
        sink = TextSink(self._screen(), sys.stderr, wording)
        if connecting is not None:
            try:
                sink.connecting(connecting)
            except OSError as error:
                self.warn(f"the report cannot be written: {reason(error)}")
                silence_stdout()
        return sink
