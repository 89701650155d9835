"""`iperfpy compare HOST`: several transports over one path, in one table, with one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iperfpy.cli.experiment_command import Experiment, ExperimentCommand, ReportForms, Values
from iperfpy.cli.secret_flags import check_typed_secrets
from iperfpy.cli.value_types import Flag, Parsed, duration, integer, size
from iperfpy.errors import ParameterError
from iperfpy.experiments.check_schedule import DIRECTIONS
from iperfpy.experiments.compare_schedule import DEFAULT_S
from iperfpy.experiments.contender import DEFAULT_CONTENDERS, contenders_of
from iperfpy.experiments.keyword_limits import BUDGET_BYTES, COMPARISON_US, SEED
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction
from iperfpy.protocols.registry import transports
from iperfpy.protocols.units import SECOND_US

if TYPE_CHECKING:
    from iperfpy.comparison.comparison_report import ComparisonReport
    from iperfpy.report.pictures.page_model import Page

SUMMARY = (
    "Compare transports over the path to a server, in both directions, and say which one to take. HOST runs"
    " `iperfpy -s`, or `iperf3 -s` for tcp and udp. Rounds of tests in random order go on until each median"
    f" is known within 5 %, or for {DEFAULT_S / 60:.0f} minutes. NAME is a transport, with parts behind it:"
    " tcp:bbr (congestion control), kcp:fast (mode), udp:20M (rate; without one, 90 % of the best rate of the"
    " others), kcp:sndwnd=512 (a setting)."
)
HEADING = "Comparison"


def flags() -> list[click.Option]:
    """New options that only this subcommand has."""
    default = ",".join(DEFAULT_CONTENDERS)
    text = Parsed("NAME,...", str)
    return [
        Flag(
            HEADING,
            ["proto", "--proto"],
            f"the contenders; may be repeated [{default}]",
            type=text,
            multiple=True,
            default=(default,),
        ),
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
            type=Parsed("SEC", duration("-t", *COMPARISON_US.range(), zero=False)),
            default=round(DEFAULT_S * SECOND_US),
        ),
        Flag(
            HEADING,
            ["budget", "--budget"],
            "send at most so many bytes of IP packets, both directions together",
            type=Parsed("BYTES", size("--budget", *BUDGET_BYTES.range())),
        ),
        Flag(
            HEADING,
            ["seed", "--seed"],
            "seed of the random order [by the clock]",
            type=Parsed("N", integer("--seed", *SEED.range())),
        ),
    ]


def _prepare(values: Values, options: ClientOptions, tos: int) -> Experiment[ComparisonReport]:
    """The tests. Raises `ParameterError`, `PlanError` or `SettingsError`."""
    from iperfpy.experiments.comparison_run import Compare

    contenders = contenders_of(",".join(values["proto"]).split(","), values["settings"])
    check_typed_secrets(values, transports(), [(one.transport, one.settings) for one in contenders])
    return Compare(
        options,
        contenders,
        directions=_directions(values),
        limit_s=values["time_us"] / SECOND_US,
        budget_bytes=values["budget"] or 0,
        seed=values["seed"],
        tos=tos,
    )


def _directions(values: Values) -> tuple[Direction, ...]:
    if values["reverse"] and values["forward"]:
        raise ParameterError(
            "--forward and -R exclude each other: without them, both directions are compared"
        )
    if values["reverse"]:
        return (Direction.REVERSE,)
    return (Direction.FORWARD,) if values["forward"] else DIRECTIONS


def _forms() -> ReportForms[ComparisonReport]:
    from iperfpy.comparison.comparison_report import ComparisonReport
    from iperfpy.report import compare_csv, compare_document, compare_text

    return ReportForms(
        empty=lambda error: ComparisonReport("", 0, 0.0, 0.0, error=error),
        document=compare_document.document,
        read=compare_document.read,
        about=compare_document.about,
        lines=compare_text.lines,
        page=_page,
        header=compare_csv.header(),
        rows=compare_csv.rows,
    )


def _page(report: ComparisonReport) -> Page:
    from iperfpy.report.pictures.comparison_page import page_of_comparison

    return page_of_comparison(report)


COMMAND = ExperimentCommand(
    "compare",
    SUMMARY,
    "compare_schema.json",
    flags,
    _prepare,
    _forms,
    csv_help="add a CSV row for each test, of bulk data or messages, to FILE (-: stdout) [results/...]",
    has_keys=True,
)
subcommand, main, stopped = COMMAND.subcommand, COMMAND.main, COMMAND.stopped
