"""`iperfpy latency HOST`: the latency of messages over several transports, idle and beside a load."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from iperfpy.cli.experiment_command import Experiment, ExperimentCommand, ReportForms, Values
from iperfpy.cli.secret_flags import check_typed_secrets
from iperfpy.cli.value_types import Flag, Parsed, duration, integer, named, rate, size
from iperfpy.errors import ParameterError
from iperfpy.experiments.keyword_limits import MESSAGE_BYTES, MESSAGE_RATE, MESSAGE_TEST_US, ROUNDS
from iperfpy.experiments.latency_run import (
    BOTH,
    DOWN,
    SECONDS,
    UP,
    WAYS,
    LatencyRun,
    LatencyStep,
    check_steps,
    messengers,
    steps_of,
)
from iperfpy.options import ClientOptions
from iperfpy.protocols.registry import transports
from iperfpy.protocols.units import SECOND_US
from iperfpy.sampling.latency_report import IDLE, OWN

if TYPE_CHECKING:
    from iperfpy.report.pictures.page_model import Page
    from iperfpy.sampling.latency_report import LatencyReport

SUMMARY = (
    "Measure how long messages and their echoes take over each transport, idle and beside bulk data. HOST"
    " runs `iperfpy -s`. A message is sent at its due time, whether or not the last one came back. NAME is a"
    " transport as in `iperfpy compare`: kcp:fast, tcp:bbr, udp."
)
HEADING = "Latency"


def flags() -> list[click.Option]:
    """New options that only this subcommand has."""
    return [*_message_flags(), *_load_flags()]


def _message_flags() -> list[click.Option]:
    """The transports and their messages."""
    return [
        Flag(
            HEADING,
            ["proto", "--proto"],
            "the transports, or all; may be repeated [all]",
            type=Parsed("NAME,...", named("--proto")),
            multiple=True,
        ),
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
            type=Parsed("SIZE,...", _list(size("--size", *MESSAGE_BYTES.range()))),
            default=(100,),
        ),
        Flag(
            HEADING,
            ["rates", "--rate"],
            "messages per second [100]",
            type=Parsed("N,...", _list(integer("--rate", *MESSAGE_RATE.range()))),
            default=(100,),
        ),
        Flag(
            HEADING,
            ["time_us", "-t", "--time"],
            f"seconds of each test [{SECONDS:.0f}]",
            type=Parsed("SEC", duration("-t", *MESSAGE_TEST_US.range(), zero=False)),
            default=round(SECONDS * SECOND_US),
        ),
        Flag(
            HEADING,
            ["owd", "--owd"],
            "up and down by the clocks of both hosts, which are synchronised (PTP, NTP), or are one",
            is_flag=True,
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
            type=Parsed("N", integer("--rounds", *ROUNDS.range())),
            default=1,
        ),
    ]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _list(parse: Callable[[str], int]) -> Callable[[str], tuple[int, ...]]:
    return lambda text: tuple(parse(word) for word in _words(text))


def _ways(values: Values) -> tuple[str, ...]:
    chosen = [values["ways"] is not None, values["reverse"], values["bidirectional"]]
    if sum(map(bool, chosen)) > 1:
        raise ParameterError("--load-direction, -R and --bidir exclude one another")
    if values["reverse"]:
        return (DOWN,)
    return (BOTH,) if values["bidirectional"] else values["ways"] or (UP, DOWN)


def _steps(values: Values) -> list[LatencyStep]:
    """The tests of a round, each within the limits of a server. Raises `PlanError` or `ParameterError`."""
    proto = ",".join(values["proto"])
    steps = steps_of(
        messengers(_words(proto) if proto else (), values["settings"]),
        sizes=values["sizes"],
        rates=values["rates"],
        loads=values["loads"],
        directions=_ways(values),
    )
    check_steps(steps, values["time_us"] / SECOND_US)
    return steps


def _prepare(values: Values, options: ClientOptions, tos: int) -> Experiment[LatencyReport]:
    """The tests. Raises `ParameterError`, `PlanError` or `SettingsError`."""
    steps = _steps(values)
    contenders = [one for step in steps for one in (step.contender, step.load) if one is not None]
    check_typed_secrets(values, transports(), [(one.transport, one.settings) for one in contenders])
    return LatencyRun(
        options,
        steps,
        seconds=values["time_us"] / SECOND_US,
        rounds=values["rounds"],
        load_rate=values["load_rate"],
        tos=tos,
        owd=values["owd"],
    )


def _forms() -> ReportForms[LatencyReport]:
    from iperfpy.report import latency_csv, latency_document, latency_text
    from iperfpy.sampling.latency_report import LatencyReport

    return ReportForms(
        empty=lambda error: LatencyReport("", 0, error=error),
        document=latency_document.document,
        read=latency_document.read,
        about=latency_document.about,
        lines=lambda report, width, letter: latency_text.lines(report, width),
        page=_page,
        header=latency_csv.header(),
        rows=latency_csv.rows,
    )


def _page(report: LatencyReport) -> Page:
    from iperfpy.report.latency_document import document
    from iperfpy.report.pictures.latency_page import page_of_latency

    return page_of_latency(document(report))


COMMAND = ExperimentCommand(
    "latency",
    SUMMARY,
    "latency_schema.json",
    flags,
    _prepare,
    _forms,
    csv_help="add a CSV line for each row of the result to FILE (-: stdout) [results/...]",
    has_rates=False,
    has_keys=True,
)
subcommand, main, stopped = COMMAND.subcommand, COMMAND.main, COMMAND.stopped
