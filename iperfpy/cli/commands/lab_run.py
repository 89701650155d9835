"""`iperfpy lab PATH -- COMMAND...`: a program over an emulated path, without root."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from io import FileIO
from math import inf
from typing import TYPE_CHECKING, Any, TextIO

import click

from iperfpy.cli.common_flags import FILE
from iperfpy.cli.exit_status import complain, on_stderr, warn
from iperfpy.cli.named_files import check_files
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Parsed, duration, integer
from iperfpy.cli.value_types import named as not_empty
from iperfpy.errors import LabError, ParameterError, system_reason
from iperfpy.protocols.addresses import named
from iperfpy.protocols.operating_system import LINUX, is_regular
from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.path_language import PathTextError, parse
from iperfpy.protocols.units import SECOND_US
from iperfpy.report.screen import write_line

if TYPE_CHECKING:
    from iperfpy.lab.run_report import RunReport

Logs = tuple[TextIO | None, TextIO | None]
INSTEAD = "for UDP, --relay HOST:PORT needs no namespaces"
USAGE = "iperfpy lab [options] PATH -- COMMAND [ARGUMENT...]"
_DAY_US = 86_400 * SECOND_US
COMMAND = Parsed("COMMAND", not_empty("--server"))
SERVER = Parsed("HOST:PORT", not_empty("--relay"))
LISTEN = Parsed("[HOST:]PORT", not_empty("--listen"))
_SECONDS = Parsed("SEC", duration("time", 1_000, 7 * _DAY_US, zero=False))


@click.command("iperfpy lab", add_help_option=False)
@click.argument("path", nargs=-1)
@click.option("--server", type=COMMAND, help="a shell command for the far end; it is awaited")
@click.option(
    "--server-wait", type=_SECONDS, default=10 * SECOND_US, help="time that the server has to listen [10]"
)
@click.option("--server-output", type=FILE, help="the output of the server [discarded]")
@click.option(
    "--seed", type=Parsed("N", integer("--seed", 0, 1 << 62)), default=1, help="seed of the random draws [1]"
)
@click.option("-t", "--timeout", type=_SECONDS, help="end the command then, with status 124")
@click.option("--json", "as_json", is_flag=True, help="write the counters as one line of JSON")
@click.option("--report", type=FILE, help="write the counters to FILE [standard error]")
@click.option("--log-up", type=FILE, help="log of the queue upwards, as mahimahi's mm-link")
@click.option("--log-down", type=FILE, help="write the log of the queue downwards")
@click.option("--relay", type=SERVER, help="without namespaces: relay the UDP of a server at HOST:PORT")
@click.option("--listen", type=LISTEN, help="address of the relay [127.0.0.1, a free port]")
@click.option("-h", "--help", "help", is_flag=True, help="print this help and exit")
@click.pass_context
def command(context: click.Context, /, path: Sequence[str], **options: Any) -> dict[str, Any] | None:
    """Run COMMAND over an emulated path, without root.

    COMMAND is at the near end, 10.77.0.1 and fd77::1. The far end is 10.77.0.2 and fd77::2, also in
    $LAB_FAR and $LAB_FAR6. docs/lab.md describes paths and limits.
    """
    if options["help"]:
        click.echo(context.get_help().replace("iperfpy lab [OPTIONS] [PATH]...", USAGE))
        return None
    return {"path": " ".join(path), **options}


def main(words: Sequence[str]) -> int:
    """Run the words after `iperfpy lab`; returns the exit status, which is the command's."""
    own = list(words[: words.index("--")] if "--" in words else words)
    programme = list(words[len(own) + 1 :])
    try:
        with command.make_context("iperfpy lab", own) as context:
            options = command.invoke(context)
        if not isinstance(options, dict):
            return 0
        _check(options, programme)
        paths = parse(options["path"])
        _check_files(options, paths)
        relay = _address(options["relay"], "--relay") if options["relay"] else None
        listen = _address(options["listen"] or "0", "--listen", host="127.0.0.1")
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except (ParameterError, PathTextError) as error:
        return complain(str(error), kind="parameter error")
    try:
        # Opened first: a report that cannot be written need not be measured.
        report = _opened(options["report"])
    except OSError as error:
        return complain(f"cannot write the report: {system_reason(error)}")
    try:
        logs = _opened(options["log_up"]), _opened(options["log_down"])
    except OSError as error:
        return complain(f"cannot write the log: {system_reason(error)}")
    try:
        if relay is not None:
            result = _relay(options, paths, programme, logs, relay, listen)
        else:
            result = _run(options, paths, programme, logs)
    except LabError as error:
        on_stderr("error", str(error))
        for stream in (report, *logs):
            _closed(stream)
        return error.exit_status
    if (fault := _write(result, options, report)) is not None:
        warn(f"the report is not complete: {system_reason(fault)}")
    for reason in (*result.log_errors, *filter(None, map(_closed, logs))):
        warn(f"a log is not complete: {system_reason(reason)}")
    return result.status


def _check(options: Mapping[str, Any], programme: Sequence[str]) -> None:
    if not options["path"] or not (programme or options["relay"]):
        raise ParameterError(f"a path and a command are needed: {USAGE}")
    if options["relay"] and options["server"]:
        raise ParameterError("--server runs at the far end, which --relay does not have: start it by itself")
    if options["listen"] and not options["relay"]:
        raise ParameterError("--listen is the address of a relay: give --relay HOST:PORT")


def _check_files(options: Mapping[str, Any], paths: tuple[Path, Path]) -> None:
    """Raise `ParameterError` if two outputs have one file, or if an output has the file of a trace."""
    flags = ("server_output", "report", "log_up", "log_down")
    traces = [path.trace for path in paths] + [
        one.fields.get("trace") for path in paths for one in path.changes
    ]
    check_files(
        [(f"--{flag.replace('_', '-')}", options[flag]) for flag in flags],
        [("trace", trace.name) for trace in traces if trace is not None],
    )


def _address(text: str, flag: str, host: str = "") -> tuple[str, int]:
    """The host and the port in HOST:PORT or [HOST]:PORT; with a default host also in PORT."""
    before, _, digits = text.rpartition(":")
    name = before[1:-1] if before.startswith("[") and before.endswith("]") else before
    is_port = digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 65_535
    if not is_port or not (name or host):
        raise ParameterError(f"{text!r} is no address such as 192.0.2.7:5201 ({flag})")
    return name or host, int(digits)


def _timeout_s(options: Mapping[str, Any]) -> float:
    return options["timeout"] / SECOND_US if options["timeout"] else inf


def _run(options: Mapping[str, Any], paths: Any, programme: Sequence[str], logs: Logs) -> RunReport:
    """Run over namespaces. Raises LabError."""
    if not LINUX:
        raise LabError(f"network namespaces need Linux; {INSTEAD}")
    # Other systems lack parts of these modules.
    from iperfpy.lab.keeper import Job
    from iperfpy.lab.lab_session import LabPlan, run
    from iperfpy.lab.world import ForbiddenError

    patience_s = options["server_wait"] / SECOND_US
    job = Job(programme, options["server"] or "", options["server_output"] or "", patience_s)
    try:
        return run(LabPlan(options["path"], paths, job, options["seed"], _timeout_s(options), logs))
    except ForbiddenError as error:
        raise LabError(f"{error}; {INSTEAD}") from error


def _relay(
    options: Mapping[str, Any],
    paths: Any,
    programme: Sequence[str],
    logs: Logs,
    server: tuple[str, int],
    listen: tuple[str, int],
) -> RunReport:
    """Run a relay in front of a server. Raises LabError."""
    from iperfpy.lab.relay_session import RelayPlan, run

    def listening(address: Any) -> None:
        write_line(sys.stderr, f"lab: relay at {named(address)}")

    plan = RelayPlan(
        options["path"], paths, server, listen, programme, options["seed"], _timeout_s(options), logs
    )
    return run(plan, listening)


def _write(result: RunReport, options: Mapping[str, Any], report: TextIO | None) -> OSError | None:
    """Write the counters where the user wants them; return the error if that fails."""
    lines = [json.dumps(result.document())] if options["as_json"] else result.lines()
    fault = None
    try:
        write_line(report or sys.stderr, "\n".join(lines))
    except OSError as error:  # a full disk must not hide the status of the command
        fault = error
    fault = _closed(report) or fault
    if result.unclean and report is not None:
        warn(f"the run is not clean: {result.unclean}")
    return fault


class _Replaced(FileIO):
    """A file with content that the first write replaces: a run that is refused leaves it as it was."""

    _begun = False

    def write(self, data: Any, /) -> int:
        if not self._begun and is_regular(self.fileno()):
            self.truncate(0)
        self._begun = True
        return super().write(data)


def _opened(file: str | None) -> TextIO | None:
    if not file:
        return None
    buffer = io.BufferedWriter(_Replaced(file, "a"))
    return io.TextIOWrapper(buffer, "utf-8", errors="backslashreplace")


def _closed(stream: TextIO | None) -> OSError | None:
    """Write the rest of a stream; return the error if that fails."""
    try:
        if stream is not None:
            stream.close()
    except OSError as error:
        return error
    return None
