"""`iperfpy lab from-csv FILE`: a trace of opportunities from a table of times and rates."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BufferedReader
from typing import cast

import click

from iperfpy.cli.common_flags import FILE
from iperfpy.cli.exit_status import DONE, complain
from iperfpy.cli.named_files import check_files
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Parsed, integer
from iperfpy.errors import ParameterError, system_reason
from iperfpy.protocols.simulator.csv_trace import stamps_from_csv
from iperfpy.protocols.simulator.trace_file import TraceError, write_trace

STDIN = "-"
COLUMN = Parsed("N", integer("the number of a column", 1, 1_000))
TIMES_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3}
RATES = {"Gbit": 1e9, "Mbit": 1e6, "kbit": 1e3, "bit": 1.0, "Mbyte": 8e6, "kbyte": 8e3, "byte": 8.0}
"""Unit of the option --rate -> bits per second."""


def convert(file: str, time: str, rate: str, columns: tuple[int, int], output: str | None) -> int:
    """Write the trace to a file, or to standard output. `file`: `-` is standard input.

    Raises `ParameterError` or `TraceError`."""
    check_files([("--output", output or "")], [("FILE", "" if file == STDIN else file)])
    stamps = stamps_from_csv(
        "standard input" if file == STDIN else file,
        ms_per_unit=TIMES_MS[time],
        bits_per_s_per_unit=RATES[rate],
        columns=columns,
        stream=cast(BufferedReader, sys.stdin.buffer) if file == STDIN else None,
    )
    if not output:
        write_trace(sys.stdout, stamps)
        return DONE
    try:
        with open(output, "w", encoding="ascii") as stream:
            write_trace(stream, stamps)
    except OSError as error:
        return complain(f"cannot write the trace to {output}: {system_reason(error)}")
    return DONE


@click.command("iperfpy lab from-csv", add_help_option=False)
@click.argument("file", default=STDIN)
@click.option("-o", "--output", type=FILE, help="file of the trace [standard output]")
@click.option("--time", type=click.Choice(list(TIMES_MS)), default="s", help="unit of the times [s]")
@click.option(
    "--rate", type=click.Choice(list(RATES)), default="Mbit", help="unit of the rates, per second [Mbit]"
)
@click.option(
    "--columns",
    type=(COLUMN, COLUMN),
    default=(1, 2),
    metavar="TIME RATE",
    help="numbers of the columns with times and rates [1 2]",
)
@click.option("-h", "--help", "help", is_flag=True, help="print this help and exit")
@click.pass_context
def command(
    context: click.Context,
    file: str,
    output: str | None,
    time: str,
    rate: str,
    columns: tuple[int, int],
    help: bool,
) -> int:
    """Turn a table of times and rates (CSV) into a trace for `trace=FILE`, in mahimahi's format.

    Each rate holds until the time of the next row. A header line is left out. Without FILE, or with `-`,
    standard input is read.
    """
    if help:
        click.echo(context.get_help())
        return DONE
    return convert(file, time, rate, columns, output)


def main(words: Sequence[str]) -> int:
    """Run `iperfpy lab from-csv WORDS`; returns the exit status."""
    try:
        with command.make_context("iperfpy lab from-csv", list(words)) as context:
            status = command.invoke(context)
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except ParameterError as error:
        return complain(str(error), kind="parameter error")
    except TraceError as error:
        return complain(str(error))
    return int(status)
