"""`iperfpy show RUN`: a saved run as it was printed, or in another form.

test       the table, in any form and unit that a test has; a CSV; the document
another    the text of its command, made from the document; its CSV if it has one; the document
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from iperfpy.cli.command_line import completed
from iperfpy.cli.commands import COMMANDS
from iperfpy.cli.common_flags import (
    FILE,
    PICTURES,
    TEXT_FORM,
    TEXT_FORM_HELP,
    chosen_flags,
    results_flags,
    shown_flags,
)
from iperfpy.cli.exit_status import DONE, complain
from iperfpy.cli.experiment_command import ReportForms, conclude, print_text
from iperfpy.cli.help import GroupedCommand, command_help
from iperfpy.cli.named_files import check_files
from iperfpy.cli.request import picture_options, text_form_of
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Flag
from iperfpy.errors import DocumentError, IperfpyError, ParameterError, StartError, system_reason
from iperfpy.options import NO_PICTURES, ClientOptions, PictureOptions
from iperfpy.plan import Role
from iperfpy.protocols.errors import SettingsError
from iperfpy.report.csv_columns import header
from iperfpy.report.csv_file import STDOUT, CsvFile, CsvStream, RowWriter
from iperfpy.report.csv_report import CsvSink
from iperfpy.report.interval_clock import IntervalClock
from iperfpy.report.terminal import Wording
from iperfpy.report.text_forms import TEXT_FORMS
from iperfpy.store.folder import STORED, Folder, read_document
from iperfpy.store.run_index import KINDS, TEST
from iperfpy.store.run_samples import kind_of
from iperfpy.store.stored_run import Run

ARGUMENTS = "RUN [options]"
SUMMARY = (
    "Print a run that was kept. RUN is its name, a beginning of the name, `last`, `last~1` for the one"
    " before, or a file that -J of iperfpy or iperf3 wrote."
)
HEADING = "Forms"


def flags() -> list[click.Option]:
    """New options of the subcommand."""
    return [
        Flag(
            HEADING,
            ["csv", "--csv"],
            "write FILE instead of printing; it must not exist (-: stdout)",
            type=FILE,
        ),
        *chosen_flags((*PICTURES, "flent", "plot")),
        Flag(HEADING, ["text", "--text"], TEXT_FORM_HELP, type=TEXT_FORM),
        *shown_flags(HEADING),
        *results_flags("print the JSON document"),
    ]


def subcommand() -> GroupedCommand:
    """The click command."""
    run = click.Argument(["run"], required=False)
    return GroupedCommand("iperfpy show", params=[run, *flags()], add_help_option=False)


def main(words: Sequence[str]) -> int:
    """Run `iperfpy show WORDS`; returns the exit status."""
    command = subcommand()
    try:
        values = command.make_context(command.name, completed(words, command.params)).params
        if values["help"]:
            print(command_help(command, ARGUMENTS, SUMMARY))
            return DONE
        if not values["run"]:
            raise ParameterError("show needs a run: iperfpy show RUN (`iperfpy runs` lists them)")
        values["pictures"] = picture_options(values)
        if values["plot"] and values["json"]:
            raise ParameterError("--plot and -J exclude each other: both use standard output")
        if values["csv"] == STDOUT and (values["json"] or values["plot"]):
            other = "-J" if values["json"] else "--plot"
            raise ParameterError(f"--csv - and {other} exclude each other: both use standard output")
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except (ParameterError, SettingsError) as error:
        return complain(str(error), kind="parameter error")
    try:
        path = Folder(values["results"] or "").find(values["run"])
        written = [(f"--{name}", values[name] or "") for name in ("csv", "html", "png", "flent")]
        written = [named for named in written if named != ("--csv", STDOUT)]
        check_files(written, [("the run", str(path))])
        _show(path, read_document(path), values)
    except IperfpyError as error:
        return complain(str(error))
    except _WriteError as error:
        return complain(f"cannot write the CSV: {system_reason(error.reason)}")
    return DONE


class _WriteError(Exception):
    """A file cannot be written; standard output has its own errors."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _show(path: Path, document: dict[str, Any], values: dict[str, Any]) -> None:
    """Print a run, or write the files that the user asked for. Raises `IperfpyError`, `_WriteError`."""
    kind = kind_of(document)
    if kind not in KINDS:
        raise DocumentError(f"{path} is not a run: it is the document of no command")
    if values["csv"]:
        _write_csv(path, kind, document, Path(values["csv"]))
    if values["pictures"] != NO_PICTURES:
        _draw(path, kind, document, values["pictures"])
    if values["json"]:
        # As -J printed it: without the store's own key.
        printed = {key: value for key, value in document.items() if key != STORED}
        print(json.dumps(printed, indent="\t", allow_nan=False))
    elif values["csv"] or values["pictures"] != NO_PICTURES:
        return  # the user asked for files instead of the text
    elif kind == TEST:
        show_test(_run_of(path, document), text_form_of(values), _wording(values))
    else:
        forms, report = _report_of(path, kind, document)
        print_text(forms, report, values["letter"] or "")
        conclude(report)


def _run_of(path: Path, document: dict[str, Any]) -> Run:
    """The records of a test. Raises `DocumentError`, which names the file."""
    try:
        return Run.from_document(document)
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from error


def _report_of(path: Path, kind: str, document: Mapping[str, Any]) -> tuple[ReportForms[Any], Any]:
    """The report of a command of several tests, with its forms. Raises `DocumentError`, which names the
    file."""
    command = importlib.import_module(COMMANDS[kind].module).COMMAND  # kinds are names of subcommands
    forms: ReportForms[Any] = command.forms()
    try:
        return forms, forms.read(document)
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from error


def _wording(values: dict[str, Any]) -> Wording:
    return Wording(values["letter"] or "", verbose=values["verbose"], verdict=not values["no_verdict"])


def show_test(run: Run, form: str, wording: Wording) -> None:
    """Print a test as its end printed it; warnings and the reason of an early end go to standard error."""
    text = TEXT_FORMS[form]
    screen = text.screen(sys.stdout, "")
    started = run.started
    if started is None:
        text.report(screen, sys.stderr, wording).error(run.error)
        return
    wording = Wording(wording.rate_letter, started.plan.title, wording.verbose, verdict=wording.verdict)
    report = text.report(screen, sys.stderr, wording)
    if wording.verbose:
        # Those of the machine that measured, not of this one.
        for line in (run.version, run.system_info):
            screen.line((line, ""))
    if started.role is Role.CLIENT:
        host, port = started.peer[:2]
        brief = Wording(wording.rate_letter, started.plan.title)
        text.report(screen, sys.stderr, brief).connecting(ClientOptions(host, port))
    run.replay(report)
    report.close()


def _draw(path: Path, kind: str, document: dict[str, Any], chosen: PictureOptions) -> None:
    """Write the pictures of a run, or draw its plot. Raises `IperfpyError`, OSError for standard output."""
    from iperfpy.cli.picture_files import PictureFiles
    from iperfpy.report.pictures.document_page import page_of_document

    lost: list[str] = []
    pictures = PictureFiles(chosen, lost.append)
    with pictures.opened():
        if kind == TEST:
            run = _run_of(path, document)
            if run.started is None:
                raise DocumentError(f"the test failed before it started: {run.error}")
            pictures.write_run(run)
        elif chosen.flent or chosen.plot:
            raise DocumentError(f"{path} is no test: only the run of a test has --flent and --plot")
        else:
            pictures.write_page(page_of_document(kind, document))
    if lost:
        raise StartError("; ".join(lost))


def _write_csv(path: Path, kind: str, document: dict[str, Any], target: Path) -> None:
    """Write the CSV of a run to `target`. Raises `IperfpyError`, `_WriteError`."""
    try:
        if kind == TEST:
            _write_test(_run_of(path, document), target)
            return
        forms, report = _report_of(path, kind, document)
        if not forms.header:
            raise DocumentError(f"a run of the kind {kind!r} has no CSV; -J prints its document")
        with _new_csv(target, forms.header) as rows:
            for cells in forms.rows(report):
                rows.row(cells)
    except OSError as error:
        if str(target) == STDOUT:
            raise  # as every error of standard output
        raise _WriteError(error) from error


def _write_test(run: Run, path: Path) -> None:
    """Write the rows of a test; `time` is the moment at which each interval ended. Raises `IperfpyError`,
    OSError."""
    if run.started is None:
        raise DocumentError(f"the test failed before it started: {run.error}")
    # The rows are stamped with the ends of their intervals, and the clocks begin with the test.
    clock = IntervalClock(run.started.unix_time)
    with _new_csv(path, header()) as rows:
        sink = CsvSink(rows, unix_time=lambda: clock.unix_time, monotonic=lambda: clock.seconds)
        sink.start(run.started)
        for interval in run.intervals:
            clock.ended(interval.rows[0].local)
            sink.interval(interval.rows)
        if run.ended is not None:
            sink.end(run.ended)


@contextlib.contextmanager
def _new_csv(path: Path, titles: Sequence[str]) -> Iterator[RowWriter]:
    """A file that did not exist, open, or standard output. Raises `StartError`, OSError."""
    if str(path) == STDOUT:
        yield CsvStream(sys.stdout, titles)
        return
    try:
        file = CsvFile(path, titles, new=True)
    except FileExistsError as error:
        raise StartError(f"{path} exists: name a new file") from error
    with contextlib.closing(file):
        yield file
