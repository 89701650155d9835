"""`iperfpy latency HOST`: the latency of messages over several transports, idle and beside a load.

    words --flags--> Steps, ClientOptions --LatencyRun--> LatencyReport --> text, or the document of -J

Progress goes to standard error, the result to standard output. A run that ends early shows the tests until
then; its exit status is 1, or 0 if one signal of the user ended it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
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
from iperfpy.cli.value_types import Flag, Parsed, duration, integer, rate, size
from iperfpy.control.plan_limits import LONGEST_MESSAGE, SHORTEST_MESSAGE, check_plan
from iperfpy.errors import ParameterError, PlanError, system_reason
from iperfpy.experiments.latency_run import BOTH, DOWN, OWN, UP, WAYS, Step, messengers, steps_of
from iperfpy.measure_keywords import client_options, message_plan_of
from iperfpy.options import NO_PICTURES, ClientOptions, PictureOptions
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.units import SECOND_US
from iperfpy.report.csv_file import STDOUT
from iperfpy.sampling.latency_report import IDLE

if TYPE_CHECKING:
    from iperfpy.report.csv_file import RowWriter
    from iperfpy.sampling.latency_report import LatencyReport

ARGUMENTS = "HOST [options]"
SUMMARY = (
    "Measure how long messages and their echoes take over each transport, idle and beside bulk data. HOST"
    " runs `iperfpy -s`. A message is sent at its due time, whether or not the last one came back. NAME is a"
    " transport as in `iperfpy compare`: kcp:fast, tcp:bbr, udp."
)
HEADING = "Latency"
MOST_ROUNDS = 1_000


def flags() -> list[click.Option]:
    """New options of the subcommand."""
    shared = chosen_flags(
        (*CONNECTION, *PICTURES, *(one for one in REPORTS if one != "letter"), "csv", "csv_overwrite")
    )
    for option in shared:
        if option.name == "json":
            option.help = "one JSON document instead of the text (--json-schema describes it)"
        if option.name == "csv":
            option.help = "add a CSV line for each row of the result to FILE (-: stdout) [results/...]"
    return [
        *_message_flags(),
        *_load_flags(),
        *shared,
        no_save(),
        Flag(
            "Output",
            ["json_schema", "--json-schema"],
            "print the JSON Schema of -J and exit",
            is_flag=True,
        ),
    ]


def _message_flags() -> list[click.Option]:
    """The transports and their messages."""
    return [
        Flag(HEADING, ["proto", "--proto"], "the transports, or all [all]", type=Parsed("NAME,...", str)),
        Flag(
            HEADING,
            ["settings", "--set"],
            "a setting of a transport: kcp:sndwnd=512; may be repeated",
            type=Parsed("NAME:KEY=VALUE", str),
            multiple=True,
        ),
        Flag(
            HEADING,
            ["sizes", "-l", "--size"],
            "bytes of a message, with its header of 16 [100]",
            type=Parsed("SIZE,...", _list(size("--size", SHORTEST_MESSAGE, LONGEST_MESSAGE))),
            default=(100,),
        ),
        Flag(
            HEADING,
            ["rates", "--rate"],
            "messages per second [100]",
            type=Parsed("N,...", _list(integer("--rate", 1, 10_000))),
            default=(100,),
        ),
        Flag(
            HEADING,
            ["time_us", "-t", "--time"],
            "seconds of each test [10]",
            type=Parsed("SEC", duration("-t", 100_000, 3600 * SECOND_US, zero=False)),
            default=10 * SECOND_US,
        ),
    ]


def _load_flags() -> list[click.Option]:
    """The loads, and the number of rounds."""
    return [
        Flag(
            HEADING,
            ["loads", "--load"],
            f"beside nothing ({IDLE}), bulk data of the same transport ({OWN}), or of NAME [{IDLE},{OWN}]",
            type=Parsed("NAME,...", _words),
            default=(IDLE, OWN),
        ),
        Flag(
            HEADING,
            ["ways", "--load-direction"],
            f"directions of the load: {', '.join(WAYS)} at once [{UP},{DOWN}]",
            type=Parsed("WAY,...", _words),
        ),
        Flag(HEADING, ["reverse", "-R", "--reverse"], f"as --load-direction {DOWN}", is_flag=True),
        Flag(HEADING, ["bidirectional", "--bidir"], f"as --load-direction {BOTH}", is_flag=True),
        Flag(
            HEADING,
            ["load_rate", "-b", "--load-rate"],
            "bit/s of the load, 0: as much as it carries [of udp 1M, else 0]",
            type=Parsed("RATE", rate),
        ),
        Flag(
            HEADING,
            ["rounds", "--rounds"],
            "measure everything so many times, and pool the rounds [1]",
            type=Parsed("N", integer("--rounds", 1, MOST_ROUNDS)),
            default=1,
        ),
    ]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _list(parse: Callable[[str], int]) -> Callable[[str], tuple[int, ...]]:
    return lambda text: tuple(parse(word) for word in _words(text))


def subcommand() -> GroupedCommand:
    """The click command."""
    host = click.Argument(["host"], required=False)
    return GroupedCommand("iperfpy latency", params=[host, *flags()], add_help_option=False)


def main(words: Sequence[str]) -> int:
    """Run `iperfpy latency WORDS`; returns the exit status."""
    json, command = json_form(words), subcommand()
    try:
        values = command.make_context(command.name, completed(words, command.params)).params
        if values["help"]:
            print(command_help(command, ARGUMENTS, SUMMARY))
            return DONE
        if values["json_schema"]:
            print((resources.files("iperfpy") / "report" / "latency_schema.json").read_text().rstrip())
            return DONE
        if not (values["host"] or "").strip():
            raise ParameterError("latency needs the server's name or address: iperfpy latency HOST")
        _check_csv(values)
        host, connection = connection_of(values, values["host"].strip())
        options, tos = client_options(host, connection), type_of_service(values)
        steps = _steps(values)
        pictures = picture_options(values, plot=False)
    except click.UsageError as error:
        return _refused(sentence(error), json)
    except (ParameterError, PlanError, SettingsError) as error:
        return _refused(str(error), json)
    return in_log_file(values, lambda: run(options, steps, values, pictures, tos))


def _refused(message: str, json: str) -> int:
    """Report words that cannot be understood; the document of -J is that of a run without results."""
    if json:
        from iperfpy.report.latency_document import write
        from iperfpy.sampling.latency_report import LatencyReport

        write(LatencyReport("", 0, error=message), sys.stdout)
    return complain(message, kind="parameter error")


def _check_csv(values: Mapping[str, Any]) -> None:
    if values["csv_overwrite"] and values["csv"] in (None, "", STDOUT):
        raise ParameterError("--csv-overwrite needs the file that it replaces: --csv FILE")
    if values["csv"] == STDOUT and values["json"]:
        raise ParameterError("--csv - and -J exclude each other: both use standard output")


def _ways(values: Mapping[str, Any]) -> tuple[str, ...]:
    chosen = [values["ways"] is not None, values["reverse"], values["bidirectional"]]
    if sum(map(bool, chosen)) > 1:
        raise ParameterError("--load-direction, -R and --bidir exclude one another")
    if values["reverse"]:
        return (DOWN,)
    return (BOTH,) if values["bidirectional"] else values["ways"] or (UP, DOWN)


def _steps(values: Mapping[str, Any]) -> list[Step]:
    """The tests of a round, each within the limits of a server. Raises `PlanError` or `ParameterError`."""
    proto = values["proto"]
    steps = steps_of(
        messengers(_words(proto) if proto else (), values["settings"]),
        sizes=values["sizes"],
        rates=values["rates"],
        loads=values["loads"],
        directions=_ways(values),
    )
    for step in steps:
        keywords = {
            "settings": step.contender.settings,
            "seconds": values["time_us"] / SECOND_US,
            "block_bytes": step.size_bytes,
        }
        check_plan(message_plan_of(step.contender.transport, keywords, step.per_s), step.contender.transport)
    return steps


def run(
    options: ClientOptions,
    steps: Sequence[Step],
    values: Mapping[str, Any],
    chosen: PictureOptions = NO_PICTURES,
    tos: int = 0,
) -> int:
    """Run the tests and write the reports. Returns the exit status.

    Raises
    ------
    StartError
        The CSV or a picture cannot be written; nothing has been measured.
    """
    from iperfpy.cli.picture_files import PictureFiles
    from iperfpy.experiments.latency_run import LatencyRun
    from iperfpy.report.csv_file import opened_csv
    from iperfpy.report.latency_csv import header
    from iperfpy.store.folder import Folder

    folder = values["results"] or ""
    experiment = LatencyRun(
        options,
        steps,
        seconds=values["time_us"] / SECOND_US,
        rounds=values["rounds"],
        load_rate=values["load_rate"],
        tos=tos,
    )
    form = JSON_DOCUMENT if values["json"] else ""
    pictures = PictureFiles(chosen, lambda text: warn(text, form))
    with (
        pictures.opened(),
        opened_csv(
            values["csv"],
            header(),
            name="latency",
            folder=Folder(folder).path,
            replace=values["csv_overwrite"],
        ) as rows,
    ):
        status = run_experiment(experiment, debug=values["debug"] is not None)
        if status is not None:
            return status
        report = experiment.report()
        written = _write_rows(rows, report)
        if report.measured and pictures.wanted:
            from iperfpy.report.latency_document import document
            from iperfpy.report.pictures.latency_page import page_of_latency

            pictures.write_page(page_of_latency(document(report)))
    status = _shown(report, json=values["json"], text=values["csv"] != STDOUT)
    if report.measured and not values["no_save"]:
        _keep(report, folder, form)
    return max(status, written, int(pictures.failed))


def _shown(report: LatencyReport, *, json: bool, text: bool) -> int:
    """Write the result, and the sentence of an early end on standard error. Returns the exit status."""
    from iperfpy.report.latency_document import write
    from iperfpy.report.latency_text import show
    from iperfpy.report.screen import screen_for

    if json:
        write(report, sys.stdout)
    elif report.measured and text:
        show(report, screen_for(sys.stdout))
    return conclude(report.warnings, report.error, stopped=report.stopped, measured=report.measured)


def _keep(report: LatencyReport, folder: str, json: str) -> None:
    """Keep the result in the folder of runs, with its text."""
    from iperfpy.cli.kept_run import keep
    from iperfpy.report.latency_document import about, document
    from iperfpy.report.latency_text import lines

    keep(document(report), about(report), list(lines(report)), folder=folder, json=json)


def _write_rows(rows: RowWriter | None, report: LatencyReport) -> int:
    """Write the lines of the CSV. Returns the exit status."""
    from iperfpy.report.latency_csv import rows as cells_of

    if rows is None:
        return DONE
    try:
        for cells in cells_of(report):
            rows.row(cells)
    except OSError as error:
        warn(f"no more rows go to {rows.name}: {system_reason(error)}")
        return FAILED
    return DONE
