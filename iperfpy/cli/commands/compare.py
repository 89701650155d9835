"""`iperfpy compare HOST`: several transports over one path, in one table, with one answer.

    words --flags--> contenders, ClientOptions --Compare--> ComparisonReport --> text, or the document of -J

Progress goes to standard error, the result to standard output. A comparison that ends early shows the tests
until then; its exit status is 1, or 0 if one signal of the user ended it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import click

from iperfpy.cli.command_line import completed
from iperfpy.cli.common_flags import CONNECTION, PICTURES, REPORTS, chosen_flags, no_save
from iperfpy.cli.exit_status import DONE, FAILED, JSON_DOCUMENT, complain, json_form, warn
from iperfpy.cli.experiment_command import conclude, in_log_file, run_experiment
from iperfpy.cli.help import GroupedCommand, command_help
from iperfpy.cli.request import connection_of, picture_options, type_of_service
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Flag, Parsed, duration, integer, size
from iperfpy.errors import ParameterError, PlanError, system_reason
from iperfpy.experiments.check_schedule import DIRECTIONS
from iperfpy.experiments.compare_schedule import DEFAULT_S, LEAST_BUDGET_BYTES
from iperfpy.experiments.contender import DEFAULT_CONTENDERS, Contender, contenders_of
from iperfpy.measure_keywords import client_options
from iperfpy.options import NO_PICTURES, ClientOptions, PictureOptions
from iperfpy.plan import Direction
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.units import SECOND_US
from iperfpy.report.csv_file import STDOUT

if TYPE_CHECKING:
    from iperfpy.comparison.comparison_report import ComparisonReport
    from iperfpy.report.csv_file import RowWriter

ARGUMENTS = "HOST [options]"
SUMMARY = (
    "Compare transports over the path to a server, in both directions, and say which one to take. HOST runs"
    " `iperfpy -s`, or `iperf3 -s` for tcp and udp. Rounds of tests in random order go on until each median"
    f" is known within 5 %, or for {DEFAULT_S / 60:.0f} minutes. NAME is a transport, with parts behind it:"
    " tcp:bbr (congestion control), kcp:fast (mode), udp:20M (rate; without one, 90 % of the best rate of the"
    " others), kcp:sndwnd=512 (a setting)."
)
HEADING = "Comparison"
LEAST_TIME_US, MOST_TIME_US = 5 * SECOND_US, 24 * 3600 * SECOND_US


def flags() -> list[click.Option]:
    """New options of the subcommand."""
    shared = chosen_flags((*CONNECTION, *PICTURES, *REPORTS, "csv", "csv_overwrite"))
    for option in shared:
        if option.name == "json":
            option.help = "one JSON document instead of the text (--json-schema describes it)"
        if option.name == "csv":
            option.help = "add a CSV row for each test to FILE (-: stdout) [results/...]"
    default = ",".join(DEFAULT_CONTENDERS)
    text = Parsed("NAME,...", str)
    return [
        Flag(HEADING, ["proto", "--proto"], f"the contenders [{default}]", type=text, default=default),
        Flag(
            HEADING,
            ["settings", "--set"],
            "a setting of every contender of a transport: kcp:sndwnd=512; may be repeated",
            type=Parsed("NAME:KEY=VALUE", str),
            multiple=True,
        ),
        Flag(HEADING, ["reverse", "-R", "--reverse"], "only from the server to this end", is_flag=True),
        Flag(HEADING, ["forward", "--forward"], "only from this end to the server", is_flag=True),
        Flag(
            HEADING,
            ["time_us", "-t", "--time"],
            f"most time of the whole comparison, such as 2m [{DEFAULT_S / 60:.0f}m]",
            type=Parsed("SEC", duration("-t", LEAST_TIME_US, MOST_TIME_US, zero=False)),
            default=round(DEFAULT_S * SECOND_US),
        ),
        Flag(
            HEADING,
            ["budget", "--budget"],
            "send at most so many bytes of IP packets, both directions together",
            type=Parsed("BYTES", size("--budget", LEAST_BUDGET_BYTES, 1 << 50)),
        ),
        Flag(
            HEADING,
            ["seed", "--seed"],
            "seed of the random order [by the clock]",
            type=Parsed("N", integer("--seed", 0, (1 << 62) - 1)),
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
    return GroupedCommand("iperfpy compare", params=[host, *flags()], add_help_option=False)


def main(words: Sequence[str]) -> int:
    """Run `iperfpy compare WORDS`; returns the exit status."""
    json, command = json_form(words), subcommand()
    try:
        values = command.make_context(command.name, completed(words, command.params)).params
        if values["help"]:
            print(command_help(command, ARGUMENTS, SUMMARY))
            return DONE
        if values["json_schema"]:
            print((resources.files("iperfpy") / "report" / "compare_schema.json").read_text().rstrip())
            return DONE
        if not (values["host"] or "").strip():
            raise ParameterError("compare needs the server's name or address: iperfpy compare HOST")
        _check_csv(values)
        contenders = contenders_of(values["proto"].split(","), values["settings"])
        host, connection = connection_of(values, values["host"].strip())
        options, tos = client_options(host, connection), type_of_service(values)
        pictures = picture_options(values, plot=False)
        directions = _directions(values)
    except click.UsageError as error:
        return _refused(sentence(error), json)
    except (ParameterError, PlanError, SettingsError) as error:
        return _refused(str(error), json)
    return in_log_file(values, lambda: run(options, contenders, directions, values, pictures, tos))


def _refused(message: str, json: str) -> int:
    """Report words that cannot be understood; the document of -J is that of a comparison without results."""
    if json:
        from iperfpy.comparison.comparison_report import ComparisonReport
        from iperfpy.report.compare_document import write

        write(ComparisonReport("", 0, 0.0, 0.0, error=message), sys.stdout)
    return complain(message, kind="parameter error")


def _directions(values: Mapping[str, Any]) -> tuple[Direction, ...]:
    if values["reverse"] and values["forward"]:
        raise ParameterError(
            "--forward and -R exclude each other: without them, both directions are compared"
        )
    if values["reverse"]:
        return (Direction.REVERSE,)
    return (Direction.FORWARD,) if values["forward"] else DIRECTIONS


def _check_csv(values: Mapping[str, Any]) -> None:
    if values["csv_overwrite"] and values["csv"] in (None, "", STDOUT):
        raise ParameterError("--csv-overwrite needs the file that it replaces: --csv FILE")
    if values["csv"] == STDOUT and values["json"]:
        raise ParameterError("--csv - and -J exclude each other: both use standard output")


def run(
    options: ClientOptions,
    contenders: Sequence[Contender],
    directions: Sequence[Direction],
    values: Mapping[str, Any],
    chosen: PictureOptions = NO_PICTURES,
    tos: int = 0,
) -> int:
    """Run the comparison and write its reports. Returns the exit status.

    Raises
    ------
    StartError
        The CSV or a picture cannot be written; nothing has been measured.
    """
    from iperfpy.cli.picture_files import PictureFiles
    from iperfpy.experiments.comparison_run import Compare
    from iperfpy.report.compare_csv import header
    from iperfpy.report.csv_file import opened_csv
    from iperfpy.store.folder import Folder

    folder = values["results"] or ""
    comparison = Compare(
        options,
        contenders,
        directions=directions,
        limit_s=values["time_us"] / SECOND_US,
        budget_bytes=values["budget"] or 0,
        seed=values["seed"],
        tos=tos,
    )
    form = JSON_DOCUMENT if values["json"] else ""
    pictures = PictureFiles(chosen, lambda text: warn(text, form))
    with (
        pictures.opened(),
        opened_csv(
            values["csv"],
            header(),
            name="compare",
            folder=Folder(folder).path,
            replace=values["csv_overwrite"],
        ) as rows,
    ):
        status = run_experiment(comparison, debug=values["debug"] is not None)
        if status is not None:
            return status
        report = comparison.report()
        written = _write_rows(rows, report)
        if report.measured and pictures.wanted:
            from iperfpy.report.pictures.comparison_page import page_of_comparison

            pictures.write_page(page_of_comparison(report))
    status = _shown(report, json=values["json"], letter=values["letter"] or "", text=values["csv"] != STDOUT)
    if report.measured and not values["no_save"]:
        _keep(report, folder, form)
    return max(status, written, int(pictures.failed))


def _shown(report: ComparisonReport, *, json: bool, letter: str, text: bool) -> int:
    """Write the result, and the sentence of an early end on standard error. Returns the exit status."""
    from iperfpy.report.compare_document import write
    from iperfpy.report.compare_text import show
    from iperfpy.report.screen import screen_for

    measured = report.measured
    if json:
        write(report, sys.stdout)
    elif measured and text:
        show(report, screen_for(sys.stdout), letter)
    return conclude(report.warnings, report.error, stopped=report.stopped, measured=measured)


def _keep(report: ComparisonReport, folder: str, json: str) -> None:
    """Keep the result in the folder of runs, with its text."""
    from iperfpy.cli.kept_run import keep
    from iperfpy.report.compare_document import about, document
    from iperfpy.report.compare_text import lines

    keep(document(report), about(report), list(lines(report)), folder=folder, json=json)


def _write_rows(rows: RowWriter | None, report: ComparisonReport) -> int:
    """Write a row of the CSV for each test. Returns the exit status."""
    from iperfpy.report.compare_csv import rows as cells_of

    if rows is None:
        return DONE
    try:
        for cells in cells_of(report):
            rows.row(cells)
    except OSError as error:
        warn(f"no more rows go to {rows.name}: {system_reason(error)}")
        return FAILED
    return DONE
