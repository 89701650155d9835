"""`iperfpy -s` and `iperfpy -c HOST`: the five steps of a test, as `iperfpy.cli.main` draws them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.early_error import report_early
from iperfpy.cli.exit_status import DONE, FAILED, interrupted, json_form, warn
from iperfpy.cli.help import answer, usage
from iperfpy.cli.plugin_warnings import warn_of_plugins
from iperfpy.cli.request import Request, request_of
from iperfpy.errors import InterruptError, IperfpyError, ParameterError, PathError, StartError
from iperfpy.options import ClientOptions, OutputOptions, ServerOptions
from iperfpy.plan import Plan, Role
from iperfpy.protocols.registry import transports

if TYPE_CHECKING:
    from iperfpy.cli.outputs import Outputs
    from iperfpy.cli.process import LogFile
    from iperfpy.records import Sink
    from iperfpy.runtime.abort_scope import AbortScope


def main(words: Sequence[str]) -> int:
    """Run the client or the server that the words describe, or answer a question.

    Returns
    -------
    int
        The exit status. 0: measured and reported, or stopped early by one signal; 1: failed; 130: interrupted
        twice.
    """
    line = CommandLine(transports())
    if not words:
        print(f"{usage()}\n\nTry 'iperfpy --help' for the options.", file=sys.stderr)
        return FAILED
    warn_of_plugins(words, line.unusable)
    parsed = line.parse(words)
    try:
        text = answer(parsed)
        if text is not None:
            print(text)
            return DONE
        request = request_of(parsed)
    except ParameterError as error:
        return report_early(error, words, parsed, "parameter error")
    for sentence in request.warnings:
        warn(sentence, json_form(words))
    failed = partial(report_early, words=words, parsed=parsed)
    try:
        return _run(request, json_form(words), failed)
    except StartError as error:
        return failed(error)


def stopped(words: Sequence[str], signal: str) -> int:
    """Report a signal that came before a test or a server could. Returns the exit status, as after a later
    one."""
    parsed = CommandLine(transports()).parse(words)
    if parsed.values["server"]:
        error = PathError(f"the server has terminated by signal {signal}")
        report_early(error, words, parsed, "interrupt")
        return DONE
    error = PathError(f"nothing was measured: the client has terminated by signal {signal}")
    return report_early(error, words, parsed)


def _run(request: Request, json: str, failed: Callable[[Exception], int]) -> int:
    """Run the request; `failed` reports its errors. Raises `StartError` if the log file cannot be opened."""
    # Help and parse errors do not need what a test needs: these imports stay out of their way.
    from iperfpy.cli.process import LogFile

    log_file = LogFile(request.process.log_file, json)
    with log_file.opened():
        try:
            status = _set_up(request, log_file)
        except IperfpyError as error:  # reported in here, so that the log file has it, too
            if not error.exit_status:
                return DONE
            return failed(error)
    return status or int(log_file.failed)


def _set_up(request: Request, log_file: LogFile) -> int:
    """Set up the process, then be the client or the server. Raises `IperfpyError`."""
    from iperfpy.cli.process import daemonize, pid_file, run_on
    from iperfpy.runtime import descriptors

    descriptors.raise_limit()
    descriptors.check_start()
    process = request.process
    on_ready = daemonize() if process.daemon else _ignore
    if isinstance(on_ready, int):
        return on_ready  # this is the parent of the daemon
    with pid_file(process.pid_file):
        run_on(process.cpu)
        level = logging.DEBUG if process.debug else logging.WARNING
        if request.server is not None:
            return _server(request.server, request.output, level, on_ready, log_file)
        assert request.plan is not None, "a request is for a client or for a server"
        assert request.client is not None, "a client has a plan and options"
        return _client(request.plan, request.client, request.output, level)


def _ignore() -> None:
    """A server that is no daemon has no parent that waits until it listens."""


def _client(plan: Plan, options: ClientOptions, output: OutputOptions, log_level: int) -> int:
    """Check the plan, open the reports, measure. Raises `IperfpyError` before the reports are open."""
    from iperfpy.cli.one_test import report_test
    from iperfpy.endpoint.client import run_client
    from iperfpy.endpoint.preflight import check_here

    transport = check_here(plan, options)

    def measure(scope: AbortScope, sinks: Sequence[Sink], outputs: Outputs) -> Awaitable[None]:
        return run_client(plan, options, sinks, transport=transport, scope=scope)

    return report_test(plan, output, log_level, measure, options)


def _server(
    options: ServerOptions,
    output: OutputOptions,
    log_level: int,
    on_ready: Callable[[], None],
    log_file: LogFile,
) -> int:
    """Serve until told to stop, or for one test (-1). Raises `IperfpyError`."""
    import asyncio

    from iperfpy.cli.outputs import Outputs, json_of
    from iperfpy.cli.process import has_terminal
    from iperfpy.endpoint.refusal_log import SERVICE
    from iperfpy.endpoint.server import run_server
    from iperfpy.report.service_log import ServiceLogSink
    from iperfpy.runtime import event_loop
    from iperfpy.runtime.signals import until_signalled

    outputs = Outputs(output)
    outputs.log_to_stderr(min(log_level, logging.INFO) if output.verbose else log_level, server=True)

    def listening(port: int) -> None:
        outputs.listening(port, again=not options.one_off)
        on_ready()

    def serving(scope: AbortScope) -> Awaitable[bool]:
        return run_server(
            options,
            lambda: [*outputs.server_sinks(), ServiceLogSink(SERVICE.info)],
            on_listening=listening,
            make_server_output=outputs.server_output,
            scope=scope,
        )

    # The end of its terminal ends a server; for one without a terminal the signal means a rotation of files.
    reopen_log = log_file.reopen if log_file.is_open else None
    on_hangup = None if has_terminal() else partial(outputs.reopen, reopen_log)
    # A CSV that cannot be written is reported now, not when the first client comes.
    try:
        with outputs.serving():
            running = until_signalled(Role.SERVER, serving, on_hangup)
            status = DONE if event_loop.run(running) else FAILED
    except InterruptError as error:
        outputs.interrupted(error)
        status = error.exit_status
    except asyncio.CancelledError:
        status = interrupted("interrupted twice", json_of(output))
    return status or int(outputs.failed)
