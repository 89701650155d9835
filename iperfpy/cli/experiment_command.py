"""The frame of a subcommand that runs several tests: `compare`, `latency` and `diagnose`.

    words --flags--> values --prepare--> Experiment --report--> text, -J, CSV, pictures, the folder of runs

A subcommand describes itself as an `ExperimentCommand`; everything else is here. Progress goes to standard
error, the result to standard output. An experiment that ends early reports its measurements until then; the
exit status is 1, or 0 if one signal of the user ended it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import click

from iperfpy.cli.command_line import completed
from iperfpy.cli.common_flags import CONNECTION, OUTPUT, PICTURES, REPORTS, chosen_flags, no_save
from iperfpy.cli.exit_status import (
    DONE,
    FAILED,
    JSON_DOCUMENT,
    complain,
    interrupted,
    json_form,
    on_stderr,
    warn,
)
from iperfpy.cli.help import GroupedCommand, command_help
from iperfpy.cli.named_files import check_options
from iperfpy.cli.request import connection_of, picture_options, type_of_service
from iperfpy.cli.secret_flags import secret_flags, secrets_of
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Flag
from iperfpy.errors import IperfpyError, ParameterError, PlanError, StartError, system_reason
from iperfpy.measure_keywords import client_options
from iperfpy.options import ClientOptions, PictureOptions
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import transports
from iperfpy.report.csv_file import STDOUT, RowWriter, opened_csv
from iperfpy.store.iperf3_document import INTERRUPTED

if TYPE_CHECKING:
    from iperfpy.cli.picture_files import PictureFiles
    from iperfpy.experiments.serial_tests import Progress
    from iperfpy.report.pictures.page_model import Page
    from iperfpy.report.progress_lines import ProgressView
    from iperfpy.report.screen import Span
    from iperfpy.store.run_index import About

ARGUMENTS = "HOST [options]"
Values = Mapping[str, Any]


class ExperimentReport(Protocol):
    """The result of several tests.

    Attributes
    ----------
    measured : True if there is a result
    warnings : sentences about this end
    error : the sentence that ended the tests early; empty: they came to their planned end
    stopped : True if the user ended them
    """

    @property
    def measured(self) -> bool: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    @property
    def error(self) -> str: ...

    @property
    def stopped(self) -> bool: ...


R = TypeVar("R", bound=ExperimentReport)
R_co = TypeVar("R_co", bound=ExperimentReport, covariant=True)


class Experiment(Protocol[R_co]):
    """Several tests that can be stopped."""

    def stop(self, reason: str) -> None: ...

    async def run(self, on_progress: Callable[[Progress[Any]], None] | None = None, /) -> None: ...

    def report(self) -> R_co: ...


@dataclass(frozen=True)  # no slots: a generic alias of such a class cannot be called (Python 3.11)
class ReportForms(Generic[R]):
    """The functions that turn a report into its forms.

    Attributes
    ----------
    empty : makes the report of a command that measured nothing, from its error
    document : JSON values, for -J and for the folder of runs
    read : the report of such a document. Raises `DocumentError`
    about : facts for the index of runs
    lines : the text as spans; takes the width of the screen or None, and the unit of rates or ""
    page : the pictures
    header, rows : titles and rows of the CSV; no title: the report has none
    """

    empty: Callable[[str], R]
    document: Callable[[R], dict[str, Any]]
    read: Callable[[Mapping[str, Any]], R]
    about: Callable[[R], About]
    lines: Callable[[R, int | None, str], Iterable[list[Span]]]
    page: Callable[[R], Page]
    header: Sequence[str] = ()
    rows: Callable[[R], Iterable[Sequence[str]]] = lambda report: ()


@dataclass(frozen=True)
class ExperimentCommand(Generic[R]):
    """One subcommand.

    Attributes
    ----------
    name : the word that starts it
    summary : its paragraph in the help and in the manual
    schema : file in iperfpy/report that describes the document of -J
    own_flags : makes the options that no other subcommand has
    prepare : makes the tests from the values of the options, the server, and the byte of -S. Raises
        `ParameterError`, `PlanError` or `SettingsError`.
    forms : imports the functions for the report
    csv_help : help of --csv; empty: the report has no CSV
    has_rates : False: there is no -f
    has_keys : True: the transports are the user's, so that their keys are needed
    """

    name: str
    summary: str
    schema: str
    own_flags: Callable[[], list[click.Option]]
    prepare: Callable[[Values, ClientOptions, int], Experiment[R]]
    forms: Callable[[], ReportForms[R]]
    csv_help: str = ""
    has_rates: bool = True
    has_keys: bool = False

    def subcommand(self, among: Mapping[str, Transport] | None = None) -> GroupedCommand:
        """The click command, with new options. `among`: the transports, by default all."""
        flags = self._flags(transports() if among is None else among)
        host = click.Argument(["host"], required=False)
        return GroupedCommand(f"iperfpy {self.name}", params=[host, *flags], add_help_option=False)

    def _flags(self, known: Mapping[str, Transport]) -> list[click.Option]:
        reports = [name for name in REPORTS if name != "letter" or self.has_rates]
        csv = ("csv", "csv_overwrite") if self.csv_help else ()
        shared = chosen_flags((*CONNECTION, *PICTURES, *reports, *csv))
        helps = {
            "json": "one JSON document instead of the text (--json-schema describes it)",
            "csv": self.csv_help,
        }
        for option in shared:
            option.help = helps.get(option.name or "", option.help)
        schema = Flag(
            OUTPUT, ["json_schema", "--json-schema"], "print the JSON Schema of -J and exit", is_flag=True
        )
        keys = secret_flags(known) if self.has_keys else ()
        return [*self.own_flags(), *keys, *shared, no_save(), schema]

    def main(self, words: Sequence[str]) -> int:
        """Run the subcommand; returns the exit status."""
        json, command = json_form(words), self.subcommand()
        try:
            values = command.make_context(command.name, completed(words, command.params)).params
            if values["help"]:
                print(command_help(command, ARGUMENTS, self.summary))
                return DONE
            if values["json_schema"]:
                print((resources.files("iperfpy") / "report" / self.schema).read_text().rstrip())
                return DONE
            words_of_host = (values["host"] or "").strip()
            if not words_of_host:
                raise ParameterError(
                    f"{self.name} needs the server's name or address: iperfpy {self.name} HOST"
                )
            check_options(command.params, values)
            host, connection = connection_of(values, words_of_host)
            connection["secrets"] = secrets_of(values, transports())
            pictures = picture_options(values, plot=False)
            experiment = self.prepare(values, client_options(host, connection), type_of_service(values))
        except click.UsageError as error:
            return self._failed(sentence(error), json, "parameter error")
        except (ParameterError, PlanError, SettingsError) as error:
            return self._failed(str(error), json, "parameter error")
        return self._run_in_log_file(experiment, values, pictures)

    def stopped(self, words: Sequence[str], signal: str) -> int:
        """Report a signal that came before the tests could. Returns the exit status."""
        reason = f"the client has terminated by signal {signal}"
        if json_form(words):
            forms = self.forms()
            _write_document(forms.document(forms.empty(f"{INTERRUPTED}{reason}")))
        return complain(f"nothing was measured: {reason}", kind="interrupt")

    def _failed(self, message: str, json: str, kind: str = "error") -> int:
        """Report that nothing was measured; with -J, by a document without results."""
        if json:
            forms = self.forms()
            _write_document(forms.document(forms.empty(message)))
        return complain(message, kind=kind)

    def _run_in_log_file(self, experiment: Experiment[R], values: Values, chosen: PictureOptions) -> int:
        """Run the tests with the output in the file of --logfile, if there is one."""
        from iperfpy.cli.process import LogFile

        try:
            with (log_file := LogFile(values["log_file"] or "", _json_of(values))).opened():
                status = self._run(experiment, values, chosen)
            return status or int(log_file.failed)
        except StartError as error:
            return self._failed(str(error), _json_of(values))

    def _run(self, experiment: Experiment[R], values: Values, chosen: PictureOptions) -> int:
        """Run the tests and write their reports. Returns the exit status.

        Raises
        ------
        StartError
            The CSV or a picture cannot be written; nothing has been measured.
        """
        from iperfpy.cli.picture_files import PictureFiles
        from iperfpy.store.folder import Folder

        forms = self.forms()
        pictures = PictureFiles(chosen, lambda text: warn(text, _json_of(values)))
        csv = opened_csv(
            values.get("csv"),
            forms.header,
            name=self.name,
            folder=Folder(values["results"] or "").path,
            replace=bool(values.get("csv_overwrite")),
        )
        with pictures.opened(), csv as rows:
            try:
                status = _measure(experiment, debug=values["debug"] is not None)
            except IperfpyError as error:  # a fault of this program; those of a test are in the report
                return self._failed(str(error), _json_of(values))
            if status is not None:
                return status
            report = experiment.report()
            written = _write_rows(rows, forms.rows(report))
            try:
                _show(forms, report, values)
                status = conclude(report)
            finally:  # a measurement is not lost because standard output was closed
                if report.measured:
                    _keep(forms, report, values, pictures)
        return max(status, written, int(pictures.failed))


def _json_of(values: Values) -> str:
    """The JSON form of the output, or empty."""
    return JSON_DOCUMENT if values["json"] else ""


def _measure(experiment: Experiment[R], *, debug: bool) -> int | None:
    """Run the tests. Returns the exit status of a second signal; None: there is a report. Raises
    `IperfpyError`."""
    from iperfpy.cli.terminal_stop import stopping_within
    from iperfpy.report.progress_lines import progress_for
    from iperfpy.runtime import descriptors, event_loop

    _log_to_stderr(debug=debug)
    descriptors.raise_limit()
    try:
        with progress_for(sys.stderr) as view, stopping_within(view.hidden):
            event_loop.run(_measured(experiment, view))
    except asyncio.CancelledError:
        return interrupted("interrupted twice")
    return None


async def _measured(experiment: Experiment[R], view: ProgressView) -> None:
    """Run the experiment to its end, or until the first signal."""
    from iperfpy.runtime.signals import Signals

    def tell(event: Progress[Any]) -> None:
        if event.step is None:
            view.remark(event.text)
        elif event.begins:
            view.step(event.text, event.elapsed_s, event.total_s)
        else:
            view.advance(event.elapsed_s, event.total_s)

    with Signals(lambda name: experiment.stop(f"the client has terminated by signal {name}")):
        await experiment.run(tell)


def _write_rows(csv: RowWriter | None, rows: Iterable[Sequence[str]]) -> int:
    """Write the rows of the CSV. Returns the exit status."""
    if csv is None:
        return DONE
    try:
        for cells in rows:
            csv.row(cells)
    except OSError as error:
        warn(f"no more rows go to {csv.name}: {system_reason(error)}")
        return FAILED
    return DONE


def _show(forms: ReportForms[R], report: R, values: Values) -> None:
    """Write the document or the text on standard output. Raises OSError."""
    if values["json"]:
        _write_document(forms.document(report))
    elif values.get("csv") != STDOUT:
        print_text(forms, report, values.get("letter") or "")


def print_text(forms: ReportForms[R], report: R, letter: str) -> None:
    """Write the text of a report on standard output, if anything was measured. Raises OSError."""
    from iperfpy.report.screen import screen_for

    if report.measured:
        screen = screen_for(sys.stdout)
        for line in forms.lines(report, screen.width, letter):
            screen.line(*line)


def _write_document(document: Mapping[str, Any]) -> None:
    from iperfpy.report.experiment_document import write

    write(document, sys.stdout)


def _keep(forms: ReportForms[R], report: R, values: Values, pictures: PictureFiles) -> None:
    """Write the pictures, and keep the result in the folder of runs unless the user does not want it."""
    from iperfpy.cli.kept_run import keep

    if pictures.wanted:
        pictures.write_page(forms.page(report))
    if not values["no_save"]:
        folder, json = values["results"] or "", _json_of(values)
        keep(forms.document(report), forms.about(report), folder=folder, json=json)


def conclude(report: ExperimentReport) -> int:
    """Write the warnings, and the sentence of an early end, on standard error. Returns the exit status."""
    for warning in report.warnings:
        on_stderr("warning", warning)
    if not report.error:
        return DONE
    if report.stopped:
        nothing = "" if report.measured else "nothing was measured: "
        on_stderr("interrupt", f"{nothing}{report.error}")
        return DONE if report.measured else FAILED
    on_stderr("error", report.error)
    return FAILED


def _log_to_stderr(*, debug: bool) -> None:
    """Log lines on standard error: the control messages with -d, else errors only."""
    from iperfpy.cli.log_format import formatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(server=False, json_stream=False))
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, handlers=[handler])
