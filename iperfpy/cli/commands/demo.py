"""`iperfpy demo`: every transport, both directions, over loopback, and one table to compare them.

The server is a process of its own, as it would be on another machine. It listens on a free port of
127.0.0.1, says which, and ends with the demo.
"""

from __future__ import annotations

import asyncio
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from iperfpy.cli.exit_status import FAILED, complain, interrupted
from iperfpy.cli.outputs import Outputs
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Parsed, duration
from iperfpy.control.plan_limits import SECOND_US
from iperfpy.endpoint import client, server
from iperfpy.errors import InterruptError, IperfpyError
from iperfpy.options import ClientOptions, OutputOptions, ServerOptions
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.registry import transports
from iperfpy.records import Row, RunEnded, RunStarted
from iperfpy.report.columns import NOT_AVAILABLE, Column, Line, columns_for
from iperfpy.report.csv_report import reason
from iperfpy.report.screen import Screen, Span, screen_for
from iperfpy.report.table import Layout, layout_for
from iperfpy.runtime import event_loop
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.signals import until_signalled
from iperfpy.sampling.sums import total

HOST = "127.0.0.1"
DIRECTIONS = (Direction.FORWARD, Direction.REVERSE)
LISTEN_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0
SECONDS = Parsed("SEC", duration("-t", SECOND_US // 2, 3600 * SECOND_US, zero=False))


class Result:
    """One run, heard as a sink: its summary, or why there is none."""

    def __init__(self, transport: Transport, direction: Direction) -> None:
        self.transport = transport
        self.direction = direction
        self.row: Row | None = None
        self.trouble = ""
        self.stopped = False
        self.csv = Path()

    def start(self, start: RunStarted) -> None:
        """The plan is ours, so there is nothing to learn."""

    def interval(self, rows: tuple[Row, ...]) -> None:
        """Only the whole is compared."""

    def end(self, end: RunEnded) -> None:
        self.row = total(end.rows, self.transport.metrics) if end.rows else None
        self.trouble = end.interrupted
        self.stopped = bool(end.interrupted) and not end.failed

    def error(self, message: str) -> None:
        self.trouble = message

    def close(self) -> None:
        """Holds nothing open."""


@dataclass(frozen=True, slots=True)
class Demo:
    """Runs the tests one after the other and prints them."""

    port: int
    duration_us: int
    screen: Screen

    def run_all(self) -> list[Result]:
        """Every transport in both directions; stops early when a signal ended one."""
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
        options = ClientOptions(HOST, self.port)
        outputs = Outputs(
            OutputOptions(csv=""), stop=lambda: signal.raise_signal(signal.SIGINT), screen=self.screen
        )
        with outputs.client_sinks(plan) as opened:
            result.csv = outputs.csv_path or result.csv
            sinks = [*opened, result]
            running = until_signalled(
                Role.CLIENT, lambda scope: client.run_client(plan, options, sinks, scope=scope)
            )
            try:
                event_loop.run(running)
            except IperfpyError as error:
                result.trouble = result.trouble or str(error)
        if outputs.failed and not result.trouble:
            result.trouble = "its report is not complete"
        return result

    def _say(self, text: str, style: str = "") -> None:
        self.screen.line((text, style))


def comparison(results: Sequence[Result], room: int | None) -> Iterator[list[Span]]:
    """The lines of the last table. Its columns are those that at least two transports have."""
    name = max(len("Transport"), *(len(result.transport.name) for result in results))
    labels = [f"{result.transport.name:<{name}} {result.direction.value:<9} " for result in results]
    files = [str(result.csv) for result in results]
    longest = max(map(len, files))
    columns = shared_columns([result.transport for result in results])
    layout = layout_for(columns, len(labels[0]), room and room - longest)
    beside = not layout.narrow
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
    """Bandwidth, and what more than one transport has a column for, in the order of the last one."""
    tables = {one.name: columns_for(one.metrics) for one in compared}
    count: dict[str, int] = {}
    latest: dict[str, Column] = {}
    for columns in tables.values():
        for column in columns[2:]:
            count[column.title] = count.get(column.title, 0) + 1
            latest[column.title] = column
    return [column for title, column in latest.items() if count[title] > 1 or len(tables) == 1]


def _cells(result: Result, layout: Layout) -> Iterator[Span]:
    """The receiver's bandwidth and the sender's figures: the transport's own column reads its cell."""
    own = {column.title: column for column in columns_for(result.transport.metrics)}
    for place, column in enumerate(layout.columns):
        sample = result.row.of(Side.SENDER if place else Side.RECEIVER) if result.row else None
        if result.row is None or sample is None or column.title not in own:
            yield layout.blank(column, NOT_AVAILABLE)
        else:
            yield layout.cell(own[column.title], Line(result.row, sample, summary=True))


def serve() -> None:
    """The server's process: a free port of loopback, said on standard output."""
    options = ServerOptions(port=0, bind=HOST)

    def serving(scope: AbortScope) -> Awaitable[bool]:
        return server.run_server(
            options, list, on_listening=lambda port: print(port, flush=True), scope=scope
        )

    with suppress(InterruptError):
        event_loop.run(until_signalled(Role.SERVER, serving))


@contextmanager
def serving() -> Iterator[int]:
    """A server in a process of its own; its port. Raises `IperfpyError` when it does not come up."""
    command = [sys.executable, "-c", "from iperfpy.cli.commands.demo import serve; serve()"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield _port_of(process)
        finally:
            process.terminate()
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None, "the process was started with a pipe"
    ready, _, _ = select.select([process.stdout], [], [], LISTEN_DEADLINE_S)
    said = process.stdout.readline().strip() if ready else ""
    if not said.isdigit():
        raise IperfpyError("the demo's server did not start")
    return int(said)


def run(duration_us: int) -> int:
    """The whole demo; gives the exit status."""
    screen = screen_for(sys.stdout)
    with serving() as port:
        results = Demo(port, duration_us, screen).run_all()
    screen.line(("===== All runs: the receiver's bandwidth, the sender's figures", "header"))
    for spans in comparison(results, screen.width):
        screen.line(*spans)
    return FAILED if any(result.trouble for result in results) else 0


@click.command("iperfpy demo", add_help_option=False)
@click.option("-t", "--time", "duration_us", type=SECONDS, default=3 * SECOND_US, help="seconds per run [3]")
@click.option("-h", "--help", "help", is_flag=True, help="show this and stop")
@click.pass_context
def command(context: click.Context, duration_us: int, help: bool) -> int:
    """Measure every transport in both directions over loopback, and compare them.

    Every run also writes a CSV under results/.
    """
    if help:
        click.echo(context.get_help())
        return 0
    return run(duration_us)


def main(argv: Sequence[str]) -> int:
    """`iperfpy demo ARGV`; gives the exit status."""
    try:
        status = command.main(list(argv), prog_name="iperfpy demo", standalone_mode=False)
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except OSError as error:
        return complain(f"cannot write a report: {reason(error)}")
    except (IperfpyError, TransportError) as error:
        return complain(str(error))
    except asyncio.CancelledError:  # the second signal cancels the task that runs a test
        return interrupted("interrupted twice")
    return int(status)
