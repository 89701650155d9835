"""`iperfpy lab PATH -- COMMAND...`: a program over an emulated path, without root."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from math import inf
from typing import Any, TextIO

import click

from iperfpy.cli.exit_status import complain, on_stderr, warn
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Parsed, duration, integer
from iperfpy.errors import ParameterError, system_reason
from iperfpy.protocols.simulator.path_language import PathError, parse
from iperfpy.protocols.units import SECOND_US

USAGE = "iperfpy lab [options] PATH -- COMMAND [ARGUMENT...]"
_DAY_US = 86_400 * SECOND_US
_SECONDS = Parsed("SEC", duration("time", 1_000, 7 * _DAY_US, zero=False))


@click.command("iperfpy lab", add_help_option=False)
@click.argument("path", nargs=-1)
@click.option(
    "--server", default="", metavar="COMMAND", help="a shell command for the far end; it is awaited"
)
@click.option(
    "--server-wait", type=_SECONDS, default=10 * SECOND_US, help="time that the server has to listen [10]"
)
@click.option("--server-output", default="", metavar="FILE", help="the output of the server [discarded]")
@click.option(
    "--seed", type=Parsed("N", integer("--seed", 0, 1 << 62)), default=1, help="of all random draws [1]"
)
@click.option("-t", "--timeout", type=_SECONDS, help="end the command then, with status 124")
@click.option("--json", "as_json", is_flag=True, help="write the counters as one line of JSON")
@click.option("--report", default="", metavar="FILE", help="write the counters to FILE [standard error]")
@click.option("--log-up", default="", metavar="FILE", help="log of the queue upwards, as mahimahi's mm-link")
@click.option("--log-down", default="", metavar="FILE", help="the same of the queue downwards")
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
        options = command.main(own, prog_name="iperfpy lab", standalone_mode=False)
        if not isinstance(options, dict):
            return 0
        paths = parse(options["path"])
        if not options["path"] or not programme:
            raise ParameterError(f"a path and a command are needed: {USAGE}")
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except (ParameterError, PathError) as error:
        return complain(str(error), kind="parameter error")
    return _run(options, paths, programme)


def _run(options: dict[str, Any], paths: Any, programme: Sequence[str]) -> int:
    # These imports stay out of the way of help and of wrong words.
    from iperfpy.lab.keeper import Job
    from iperfpy.lab.lab_session import LabError, Plan, run
    from iperfpy.lab.world import ForbiddenError

    job = Job(
        programme, options["server"], options["server_output"], patience_s=options["server_wait"] / SECOND_US
    )
    timeout_s = options["timeout"] / SECOND_US if options["timeout"] else inf
    try:
        # Opened first: a report that cannot be written need not be measured.
        report = open(options["report"], "w") if options["report"] else sys.stderr  # noqa: SIM115
    except OSError as error:
        return complain(f"cannot write the report: {system_reason(error)}")
    try:
        logs = _opened(options["log_up"]), _opened(options["log_down"])
    except OSError as error:
        return complain(f"cannot write the log: {system_reason(error)}")
    try:
        result = run(Plan(options["path"], paths, job, options["seed"], timeout_s, logs))
    except ForbiddenError as error:
        return complain(str(error))
    except LabError as error:
        on_stderr("error", str(error))
        return error.status
    if options["as_json"]:
        print(json.dumps(result.document()), file=report, flush=True)
    else:
        print("\n".join(result.lines()), file=report, flush=True)
        if result.unclean and options["report"]:
            warn(f"the run is not clean: {result.unclean}")
    for reason in (*result.log_errors, *filter(None, map(_closed, logs))):
        warn(f"a log is not complete: {system_reason(reason)}")
    return result.status


def _opened(file: str) -> TextIO | None:
    return open(file, "w", encoding="utf-8", errors="backslashreplace") if file else None


def _closed(stream: TextIO | None) -> OSError | None:
    """Write the rest of a stream; return the error if that fails."""
    try:
        if stream is not None:
            stream.close()
    except OSError as error:
        return error
    return None
