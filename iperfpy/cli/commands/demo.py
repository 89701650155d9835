"""`iperfpy demo`: every transport, both directions, over loopback, and one table to compare them.

LocalServer   a server in a process of its own, as it would be on another machine
Demo          one test after the other, each with its table and its CSV    --> Result
comparison    the last table: a line per Result
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from iperfpy.api import LiveTest, watch
from iperfpy.cli.exit_status import FAILED, complain, interrupted
from iperfpy.cli.outputs import NO_READER, Outputs
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Parsed, duration
from iperfpy.errors import IperfpyError, system_reason
from iperfpy.local_server import LocalServer
from iperfpy.options import ClientOptions, OutputOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.registry import transports
from iperfpy.protocols.units import SECOND_US
from iperfpy.records import Row
from iperfpy.report.columns import NOT_AVAILABLE, Column, Line, columns_for
from iperfpy.report.screen import Screen, Span, screen_for
from iperfpy.report.table import Layout, layout_for
from iperfpy.runtime import event_loop
from iperfpy.runtime.signals import Signals
from iperfpy.store.stored_run import Run

HOST = "127.0.0.1"
DIRECTIONS = (Direction.FORWARD, Direction.REVERSE)
SECONDS = Parsed("SEC", duration("-t", SECOND_US // 2, 3600 * SECOND_US, zero=False))


@dataclass(slots=True)
class Result:
    """One test of the demo.

    `row` is its summary, None if there is none. `trouble` is the reason that ended it early, or empty, and
    `stopped` is True if that was the user.
    """

    transport: Transport
    direction: Direction
    csv: Path = Path()
    row: Row | None = None
    trouble: str = ""
    stopped: bool = False

    def take(self, run: Run) -> None:
        """Take over the result of a run, and the reason that ended it early."""
        self.row = run.sums[0] if run.sums else None
        self.trouble = run.error
        self.stopped = bool(run.error) and not run.failed


@dataclass(frozen=True, slots=True)
class Demo:
    """Runs the tests one after the other and prints them."""

    port: int
    duration_us: int
    screen: Screen

    def run_all(self) -> list[Result]:
        """Measure every transport in both directions, until a signal ends one of the tests."""
        results: list[Result] = []
        for transport in transports().values():
            for direction in DIRECTIONS:
                self._say(f"===== {transport.name}, {direction.value}: {transport.summary}", "header")
                results.append(self._run(transport, direction))
                self._say("")
                if results[-1].stopped:
                    return results
        return results

    def _run(self, transport: Transport, direction: Direction) -> Result:
        result = Result(transport, direction)
        settings = transport.settings()
        plan = Plan(
            transport.name,
            settings,
            direction,
            duration_us=self.duration_us,
            block_bytes=transport.block_bytes(settings),
        )
        outputs = Outputs(OutputOptions(csv=""), screen=self.screen)
        with outputs.client_sinks(plan) as sinks:
            result.csv = outputs.csv_path or result.csv
            test = watch(ClientOptions(HOST, self.port), plan, sinks=sinks)
            try:
                result.take(event_loop.run(measured(test, outputs)))
            except IperfpyError as error:
                result.take(error.run)
        if outputs.failed and not result.trouble:
            result.trouble = "its report is not complete"
        return result

    def _say(self, text: str, style: str = "") -> None:
        self.screen.line((text, style))


def comparison(results: Sequence[Result], room: int | None) -> Iterator[list[Span]]:
    """The lines of the last table, with the columns that at least two transports have."""
    name = max(len("Transport"), *(len(result.transport.name) for result in results))
    labels = [f"{result.transport.name:<{name}} {result.direction.value:<9} " for result in results]
    files = [str(result.csv) for result in results]
    longest = max(map(len, files))
    # A CSV's name cannot shrink: in a narrow table the names stand below it, in the order of the lines.
    columns = shared_columns([result.transport for result in results])
    layout = layout_for(columns, len(labels[0]), room and room - longest)
    beside = not layout.narrow
    if not beside:
        layout = layout_for(columns, len(labels[0]), room)
    indent = f"{'Transport':<{name}} {'Direction':<9} "
    for head in layout.heads():
        yield [(indent + head + (layout.gap + "CSV" if beside else ""), "header")]
        indent = " " * len(indent)
    for label, file, result in zip(labels, files, results, strict=True):
        yield [(label, ""), *_cells(result, layout), (file if beside else "", "muted")]
    for file in () if beside else files:
        yield [(file, "muted")]
    for label, result in zip(labels, results, strict=True):
        if result.trouble:
            yield [(f"{label.strip()}: {result.trouble}", "alarm")]


def shared_columns(compared: Sequence[Transport]) -> list[Column]:
    """Bandwidth, and the columns that more than one transport has, in the order of the last one."""
    tables = {one.name: columns_for(one.metrics) for one in compared}
    count: dict[str, int] = {}
    latest: dict[str, Column] = {}
    for columns in tables.values():
        for column in columns[2:]:
            count[column.title] = count.get(column.title, 0) + 1
            latest[column.title] = column
    return [column for title, column in latest.items() if count[title] > 1 or len(tables) == 1]


def _cells(result: Result, layout: Layout) -> Iterator[Span]:
    """The receiver's bandwidth and the sender's figures, each read by the transport's own column."""
    own = {column.title: column for column in columns_for(result.transport.metrics)}
    for place, column in enumerate(layout.columns):
        sample = result.row.of(Side.SENDER if place else Side.RECEIVER) if result.row else None
        if result.row is None or sample is None or column.title not in own:
            yield layout.blank(column, NOT_AVAILABLE)
        else:
            yield layout.cell(own[column.title], Line(result.row, sample, summary=True))


async def measured(test: LiveTest, outputs: Outputs) -> Run:
    """Run a test to its end, or until the first signal or the end of its output's reader. The second signal
    cancels this function's task."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the test is over
            loop.call_soon_threadsafe(test.stop, NO_READER)

    outputs.stop = stop
    async with test:
        with Signals(lambda name: test.stop(f"the client has terminated by signal {name}")):
            return await test.finished()


def run(duration_us: int) -> int:
    """Run the whole demo; returns the exit status."""
    screen = screen_for(sys.stdout)
    with LocalServer(HOST) as server:
        results = Demo(server.port, duration_us, screen).run_all()
    screen.line(("===== All runs: the receiver's bandwidth, the sender's figures", "header"))
    for spans in comparison(results, screen.width):
        screen.line(*spans)
    return FAILED if any(result.trouble for result in results) else 0


@click.command("iperfpy demo", add_help_option=False)
@click.option("-t", "--time", "duration_us", type=SECONDS, default=3 * SECOND_US, help="seconds per run [3]")
@click.option("-h", "--help", "help", is_flag=True, help="print this help and exit")
@click.pass_context
def command(context: click.Context, duration_us: int, help: bool) -> int:
    """Measure every transport in both directions over loopback, and compare them.

    Every run also writes a CSV under results/.
    """
    if help:
        click.echo(context.get_help())
        return 0
    return run(duration_us)


def main(words: Sequence[str]) -> int:
    """Run `iperfpy demo WORDS`; returns the exit status."""
    try:
        status = command.main(list(words), prog_name="iperfpy demo", standalone_mode=False)
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except OSError as error:
        return complain(f"cannot write a report: {system_reason(error)}")
    except (IperfpyError, TransportError) as error:
        return complain(str(error))
    except asyncio.CancelledError:  # the second signal cancels the task that runs a test
        return interrupted("interrupted twice")
    return int(status)
