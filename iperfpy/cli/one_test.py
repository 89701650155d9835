"""Steps 4 and 5 of a test, at the end that decides about it: open the reports, measure, report the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from iperfpy.cli.exit_status import DONE, FAILED, interrupted
from iperfpy.cli.outputs import NO_READER, Outputs, json_of
from iperfpy.cli.picture_files import PictureFiles
from iperfpy.errors import InterruptError, IperfpyError, fault_of
from iperfpy.options import ClientOptions, OutputOptions
from iperfpy.plan import Plan, Role
from iperfpy.records import Sink
from iperfpy.report.guarded_sink import GuardedSink
from iperfpy.runtime import event_loop
from iperfpy.runtime.signals import until_signalled
from iperfpy.store.run_recorder import RunRecorder

if TYPE_CHECKING:
    from iperfpy.runtime.abort_scope import AbortScope

Measure = Callable[["AbortScope", Sequence[Sink], Outputs], Awaitable[None]]
"""Runs the test and reports it to the sinks."""


def report_test(
    plan: Plan, output: OutputOptions, log_level: int, measure: Measure, server: ClientOptions | None = None
) -> int:
    """Run one test with all its reports. `server`: the one that a first line names; None: no such line.
    Returns the exit status. Raises `StartError` before the reports are open."""
    outputs = Outputs(output)
    pictures, recorder = PictureFiles(output.pictures, outputs.warn), RunRecorder()
    with pictures.opened():
        with outputs.client_sinks(plan, server) as sinks:
            # Below the status line's row, which the sinks have put under standard error as well.
            outputs.log_to_stderr(log_level)
            if outputs.failed:
                return FAILED  # a test that cannot be reported need not be run
            if pictures.wanted:
                sinks.append(GuardedSink(recorder, outputs.stdout_failed))
            status = _measured(measure, outputs, sinks, json_of(output))
        # The table is complete by now, so that a plot stands below it.
        try:
            pictures.write_run(recorder.run())
        except Exception as error:
            outputs.stdout_failed(error)
    return status or int(outputs.failed)


def _measured(measure: Measure, outputs: Outputs, sinks: Sequence[Sink], json: str) -> int:
    """Run the test, and report how it ended. Returns the exit status."""

    def measuring(scope: AbortScope) -> Awaitable[None]:
        outputs.stop = lambda: scope.abort_threadsafe(InterruptError(NO_READER))
        return measure(scope, sinks, outputs)

    try:
        event_loop.run(until_signalled(Role.CLIENT, measuring))
    except InterruptError as error:
        return error.exit_status
    except IperfpyError as error:
        outputs.repeat_for_people(error)
        return error.exit_status
    except asyncio.CancelledError:  # the second signal cancels the task that runs the test
        return interrupted("interrupted twice", json)
    except Exception as error:  # a fault of this program, which the sinks have told already
        outputs.repeat_for_people(fault_of(error))
        return FAILED
    return DONE
