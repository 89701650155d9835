"""`iperfpy diagnose HOST`: the limit of a path in each direction, in words.

    words --flags--> ClientOptions --PathCheck--> PathReport --> text, or the document of -J

Progress goes to standard error, the result to standard output. A diagnosis that ends early shows the
conclusions from its measurements until then; its exit status is 1, or 0 if one signal of the user ended it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import click

from iperfpy.cli.command_line import completed
from iperfpy.cli.common_flags import CONNECTION, REPORTS, chosen_flags, no_save
from iperfpy.cli.exit_status import DONE, FAILED, JSON_DOCUMENT, complain, interrupted, json_form, on_stderr
from iperfpy.cli.help import GroupedCommand, command_help
from iperfpy.cli.request import connection_of, type_of_service
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Flag, Parsed, size
from iperfpy.errors import IperfpyError, ParameterError, PlanError, StartError
from iperfpy.experiments.check_schedule import LEAST_BUDGET_BYTES
from iperfpy.measure_keywords import client_options
from iperfpy.options import ClientOptions
from iperfpy.protocols.errors import SettingsError

if TYPE_CHECKING:
    from iperfpy.diagnosis.path_report import PathReport
    from iperfpy.experiments.path_check import PathCheck, Progress
    from iperfpy.report.progress_lines import ProgressView

ARGUMENTS = "HOST [options]"
SUMMARY = (
    "Find the limits of the path to a server, in both directions, and their remedies. HOST runs"
    " `iperfpy -s`, or `iperf3 -s`, which can show less. It takes 60 s, or 120 s above a round-trip time of"
    " 150 ms, and as many bytes as the path carries in about half of that time."
)
HEADING = "Diagnosis"


def flags() -> list[click.Option]:
    """New options of the subcommand."""
    shared = chosen_flags((*CONNECTION, *REPORTS))
    for option in shared:
        if option.name == "json":
            option.help = "one JSON document instead of the text (--json-schema describes it)"
    budget = Parsed("BYTES", size("--budget", LEAST_BUDGET_BYTES, 1 << 50))
    return [
        Flag(HEADING, ["quick", "--quick"], "take 20 s: one round, and fewer rates of UDP", is_flag=True),
        Flag(
            HEADING,
            ["budget", "--budget"],
            "send at most so many bytes of IP packets, both directions together",
            type=budget,
        ),
        *shared,
        no_save(),
        Flag(
            "Output",
            ["json_schema", "--json-schema"],
            "print the JSON Schema of -J and exit",
            is_flag=True,
        ),
    ]


def subcommand() -> GroupedCommand:
    """The click command."""
    host = click.Argument(["host"], required=False)
    return GroupedCommand("iperfpy diagnose", params=[host, *flags()], add_help_option=False)


def main(words: Sequence[str]) -> int:
    """Run `iperfpy diagnose WORDS`; returns the exit status."""
    json, command = json_form(words), subcommand()
    try:
        values = command.make_context(command.name, completed(words, command.params)).params
        if values["help"]:
            print(command_help(command, ARGUMENTS, SUMMARY))
            return DONE
        if values["json_schema"]:
            print((resources.files("iperfpy") / "report" / "diagnosis_schema.json").read_text().rstrip())
            return DONE
        if not (values["host"] or "").strip():
            raise ParameterError("diagnose needs the server's name or address: iperfpy diagnose HOST")
        host, connection = connection_of(values, values["host"].strip())
        options, tos = client_options(host, connection), type_of_service(values)
    except click.UsageError as error:
        return _refused(sentence(error), json)
    except (ParameterError, PlanError, SettingsError) as error:
        return _refused(str(error), json)
    return _logged(values["log_file"] or "", options, values, tos)


def _refused(message: str, json: str) -> int:
    """Report words that cannot be understood; the document of -J is that of a diagnosis without results."""
    if json:
        from iperfpy.diagnosis.path_report import PathReport
        from iperfpy.report.diagnosis_document import write

        write(PathReport("", 0, 0.0, 0.0, error=message), sys.stdout)
    return complain(message, kind="parameter error")


def _logged(path: str, options: ClientOptions, values: dict[str, object], tos: int) -> int:
    """Run the diagnosis with its output in the log file, if the user names one."""
    from iperfpy.cli.process import LogFile

    log_file = LogFile(path)
    try:
        with log_file.opened():
            return _run(options, values, tos)
    except StartError as error:
        return complain(str(error), JSON_DOCUMENT if values["json"] else "")


def _run(options: ClientOptions, values: dict[str, object], tos: int) -> int:
    from iperfpy.experiments import check_schedule as schedule
    from iperfpy.experiments.path_check import PathCheck
    from iperfpy.report.progress_lines import progress_for
    from iperfpy.runtime import descriptors, event_loop

    _log_to_stderr(debug=values["debug"] is not None)
    descriptors.raise_limit()
    budget = values["budget"]
    check = PathCheck(
        options,
        schedule.QUICK if values["quick"] else schedule.FULL,
        budget_bytes=budget if isinstance(budget, int) else 0,
        tos=tos,
    )
    try:
        with progress_for(sys.stderr) as view:
            event_loop.run(_measured(check, view))
    except IperfpyError as error:  # a fault of this program; those of a test are in the report
        return complain(str(error))
    except asyncio.CancelledError:
        return interrupted("interrupted twice")
    report = check.report()
    status = _shown(report, json=bool(values["json"]), letter=str(values["letter"] or ""))
    if report.directions and not values["no_save"]:
        _keep(report, str(values["results"] or ""), JSON_DOCUMENT if values["json"] else "")
    return status


def _keep(report: PathReport, folder: str, json: str) -> None:
    """Keep the result in the folder of runs, with its text."""
    from iperfpy.cli.kept_run import keep
    from iperfpy.report.diagnosis_document import about, document
    from iperfpy.report.diagnosis_text import lines

    keep(document(report), about(report), list(lines(report)), folder=folder, json=json)


async def _measured(check: PathCheck, view: ProgressView) -> None:
    """Run the diagnosis to its end, or until the first signal."""
    from iperfpy.runtime.signals import Signals

    def tell(event: Progress) -> None:
        if event.step is None:
            view.remark(event.text)
        elif event.begins:
            view.step(event.text, event.elapsed_s, event.total_s)
        else:
            view.advance(event.elapsed_s, event.total_s)

    with Signals(lambda name: check.stop(f"the client has terminated by signal {name}")):
        await check.run(tell)


def _shown(report: PathReport, *, json: bool, letter: str) -> int:
    """Write the result, and the sentence of an early end on standard error. Returns the exit status."""
    from iperfpy.report.diagnosis_document import write
    from iperfpy.report.diagnosis_text import show
    from iperfpy.report.screen import screen_for

    if json:
        write(report, sys.stdout)
    elif report.directions:
        show(report, screen_for(sys.stdout), letter)
    for warning in report.warnings:
        on_stderr("warning", warning)
    if not report.error:
        return DONE
    nothing = not report.directions
    if report.stopped:
        on_stderr("interrupt", f"nothing was measured: {report.error}" if nothing else report.error)
        return FAILED if nothing else DONE
    on_stderr("error", report.error)
    return FAILED


def _log_to_stderr(*, debug: bool) -> None:
    """Log lines on standard error: the control messages with -d, else errors only."""
    from iperfpy.cli.log_format import formatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(server=False, json_stream=False))
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, handlers=[handler])
