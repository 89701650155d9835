"""`iperfpy diagnose HOST`: the limit of a path in each direction, in words.

    words --flags--> ClientOptions --PathCheck--> PathReport --> text, or the document of -J

Progress goes to standard error, the result to standard output. A diagnosis that ends early shows the
conclusions from its measurements until then; its exit status is 1, or 0 if one signal of the user ended it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import click

from iperfpy.cli.command_line import completed
from iperfpy.cli.common_flags import CONNECTION, PICTURES, REPORTS, chosen_flags, no_save
from iperfpy.cli.exit_status import DONE, JSON_DOCUMENT, complain, json_form, warn
from iperfpy.cli.experiment_command import conclude, in_log_file, run_experiment
from iperfpy.cli.help import GroupedCommand, command_help
from iperfpy.cli.request import connection_of, picture_options, type_of_service
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Flag, Parsed, size
from iperfpy.errors import ParameterError, PlanError
from iperfpy.experiments.check_schedule import LEAST_BUDGET_BYTES
from iperfpy.measure_keywords import client_options
from iperfpy.options import ClientOptions, PictureOptions
from iperfpy.protocols.errors import SettingsError

if TYPE_CHECKING:
    from iperfpy.cli.picture_files import PictureFiles
    from iperfpy.diagnosis.path_report import PathReport

ARGUMENTS = "HOST [options]"
SUMMARY = (
    "Find the limits of the path to a server, in both directions, and their remedies. HOST runs"
    " `iperfpy -s`, or `iperf3 -s`, which can show less. It takes 60 s, or 120 s above a round-trip time of"
    " 150 ms, and as many bytes as the path carries in about half of that time."
)
HEADING = "Diagnosis"


def flags() -> list[click.Option]:
    """New options of the subcommand."""
    shared = chosen_flags((*CONNECTION, *PICTURES, *REPORTS))
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
        pictures = picture_options(values, plot=False)
    except click.UsageError as error:
        return _refused(sentence(error), json)
    except (ParameterError, PlanError, SettingsError) as error:
        return _refused(str(error), json)
    return in_log_file(values, lambda: _run(options, values, pictures, tos))


def _refused(message: str, json: str) -> int:
    """Report words that cannot be understood; the document of -J is that of a diagnosis without results."""
    if json:
        from iperfpy.diagnosis.path_report import PathReport
        from iperfpy.report.diagnosis_document import write

        write(PathReport("", 0, 0.0, 0.0, error=message), sys.stdout)
    return complain(message, kind="parameter error")


def _run(options: ClientOptions, values: Mapping[str, Any], chosen: PictureOptions, tos: int) -> int:
    """Run the diagnosis and write its reports. Raises `StartError` if a picture cannot be written."""
    from iperfpy.cli.picture_files import PictureFiles
    from iperfpy.experiments import check_schedule as schedule
    from iperfpy.experiments.path_check import PathCheck

    check = PathCheck(
        options,
        schedule.QUICK if values["quick"] else schedule.FULL,
        budget_bytes=values["budget"] or 0,
        tos=tos,
    )
    form = JSON_DOCUMENT if values["json"] else ""
    pictures = PictureFiles(chosen, lambda sentence: warn(sentence, form))
    with pictures.opened():
        status = run_experiment(check, debug=values["debug"] is not None)
        if status is not None:
            return status
        report = check.report()
        status = _shown(report, json=values["json"], letter=values["letter"] or "")
        if report.directions:
            _draw(report, pictures)
    if report.directions and not values["no_save"]:
        _keep(report, values["results"] or "", form)
    return status or int(pictures.failed)


def _draw(report: PathReport, pictures: PictureFiles) -> None:
    if pictures.wanted:
        from iperfpy.report.diagnosis_document import document
        from iperfpy.report.pictures.diagnosis_page import page_of_diagnosis

        pictures.write_page(page_of_diagnosis(document(report)))


def _keep(report: PathReport, folder: str, json: str) -> None:
    """Keep the result in the folder of runs, with its text."""
    from iperfpy.cli.kept_run import keep
    from iperfpy.report.diagnosis_document import about, document
    from iperfpy.report.diagnosis_text import lines

    keep(document(report), about(report), list(lines(report)), folder=folder, json=json)


def _shown(report: PathReport, *, json: bool, letter: str) -> int:
    """Write the result, and the sentence of an early end on standard error. Returns the exit status."""
    from iperfpy.report.diagnosis_document import write
    from iperfpy.report.diagnosis_text import show
    from iperfpy.report.screen import screen_for

    if json:
        write(report, sys.stdout)
    elif report.directions:
        show(report, screen_for(sys.stdout), letter)
    return conclude(report.warnings, report.error, stopped=report.stopped, measured=bool(report.directions))
