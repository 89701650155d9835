"""`iperfpy diagnose HOST`: the limit of a path in each direction, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iperfpy.cli.experiment_command import Experiment, ExperimentCommand, ReportForms, Values
from iperfpy.cli.value_types import Flag, Parsed, size
from iperfpy.experiments import check_schedule as schedule
from iperfpy.experiments.keyword_limits import BUDGET_BYTES
from iperfpy.options import ClientOptions

if TYPE_CHECKING:
    from iperfpy.diagnosis.path_report import PathReport
    from iperfpy.report.pictures.page_model import Page

SUMMARY = (
    "Find the limits of the path to a server, in both directions, and their remedies. HOST runs"
    " `iperfpy -s`, or `iperf3 -s`, which can show less. It takes 60 s, or 120 s above a round-trip time of"
    " 150 ms, and as many bytes as the path carries in about half of that time."
)
HEADING = "Diagnosis"


def flags() -> list[click.Option]:
    """New options that only this subcommand has."""
    return [
        Flag(HEADING, ["quick", "--quick"], "take 20 s: one round, and fewer rates of UDP", is_flag=True),
        Flag(
            HEADING,
            ["budget", "--budget"],
            "send at most so many bytes of IP packets, both directions together",
            type=Parsed("BYTES", size("--budget", *BUDGET_BYTES.range())),
        ),
    ]


def _prepare(values: Values, options: ClientOptions, tos: int) -> Experiment[PathReport]:
    """The tests."""
    from iperfpy.experiments.path_check import PathCheck

    scale = schedule.QUICK if values["quick"] else schedule.FULL
    return PathCheck(options, scale, budget_bytes=values["budget"] or 0, tos=tos)


def _forms() -> ReportForms[PathReport]:
    from iperfpy.diagnosis.path_report import PathReport
    from iperfpy.report import diagnosis_document, diagnosis_text

    return ReportForms(
        empty=lambda error: PathReport("", 0, 0.0, 0.0, error=error),
        document=diagnosis_document.document,
        read=diagnosis_document.read,
        about=diagnosis_document.about,
        lines=diagnosis_text.lines,
        page=_page,
    )


def _page(report: PathReport) -> Page:
    from iperfpy.report.diagnosis_document import document
    from iperfpy.report.pictures.diagnosis_page import page_of_diagnosis

    return page_of_diagnosis(document(report))


COMMAND = ExperimentCommand("diagnose", SUMMARY, "diagnosis_schema.json", flags, _prepare, _forms)
subcommand, main, stopped = COMMAND.subcommand, COMMAND.main, COMMAND.stopped
