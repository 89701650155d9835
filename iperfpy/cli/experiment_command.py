"""The common part of the subcommands that run several tests: log file, progress, signals, exit status.

in_log_file      the whole command, with its output in the log file if the user names one
run_experiment   the tests, until their end or the first signal; progress goes to standard error
conclude         warnings, and the sentence of an early end
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from iperfpy.cli.exit_status import DONE, FAILED, JSON_DOCUMENT, complain, interrupted, on_stderr
from iperfpy.errors import IperfpyError, StartError

if TYPE_CHECKING:
    from iperfpy.experiments.serial_tests import Progress
    from iperfpy.report.progress_lines import ProgressView


class Experiment(Protocol):
    """Several tests that can be stopped."""

    def stop(self, reason: str) -> None: ...

    async def run(self, on_progress: Callable[[Progress[Any]], None] | None = None, /) -> None: ...


def in_log_file(values: Mapping[str, Any], run: Callable[[], int]) -> int:
    """Run a command with its output in the file of --logfile. Returns the exit status."""
    from iperfpy.cli.process import LogFile

    log_file = LogFile(values["log_file"] or "")
    try:
        with log_file.opened():
            return run()
    except StartError as error:
        return complain(str(error), JSON_DOCUMENT if values["json"] else "")


def run_experiment(experiment: Experiment, *, debug: bool) -> int | None:
    """Run the tests. Returns the exit status of a fault or of a second signal; None: there is a report."""
    from iperfpy.report.progress_lines import progress_for
    from iperfpy.runtime import descriptors, event_loop

    _log_to_stderr(debug=debug)
    descriptors.raise_limit()
    try:
        with progress_for(sys.stderr) as view:
            event_loop.run(_measured(experiment, view))
    except IperfpyError as error:  # a fault of this program; those of a test are in the report
        return complain(str(error))
    except asyncio.CancelledError:
        return interrupted("interrupted twice")
    return None


async def _measured(experiment: Experiment, view: ProgressView) -> None:
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


def conclude(warnings: Sequence[str], error: str, *, stopped: bool, measured: bool) -> int:
    """Write the warnings of a report, and the sentence of its early end, on standard error.

    Parameters
    ----------
    error : empty: the experiment came to its planned end
    stopped : True if the user ended it
    measured : True if there is a result
    """
    for warning in warnings:
        on_stderr("warning", warning)
    if not error:
        return DONE
    if stopped:
        on_stderr("interrupt", error if measured else f"nothing was measured: {error}")
        return DONE if measured else FAILED
    on_stderr("error", error)
    return FAILED


def _log_to_stderr(*, debug: bool) -> None:
    """Log lines on standard error: the control messages with -d, else errors only."""
    from iperfpy.cli.log_format import formatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(server=False, json_stream=False))
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, handlers=[handler])
