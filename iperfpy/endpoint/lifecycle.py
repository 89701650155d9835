"""The steps of a running test, and the only order in which they may be taken.

    client    START  STOP  COUNT_LATE  SEND_RESULTS  TAKE_RESULTS  CONCLUDE
    server    START  STOP  TAKE_RESULTS  COUNT_LATE  [SHOW_OUTPUT]  SEND_RESULTS  CONCLUDE
    alone     START  STOP  COUNT_LATE  CONCLUDE
    any       FAIL   at any time after START, and nothing after it

The orders differ because the client says that the test is over and sends its results first. Both count late
once the peer has said that it stopped: the server by EXCHANGE_RESULTS, the client by its results. STOP may
be repeated, because the end of the time and an error may come together.

The tables are checked at run time. A step out of order is a fault of this program and raises RuntimeError.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from iperfpy.plan import Role


class Stage(enum.Enum):
    """The state of a running test."""

    READY = "data does not flow yet"
    RUNNING = "data flows"
    STOPPED = "this end has stopped counting"
    COUNTED = "late arrivals are counted"
    INFORMED = "the peer's results are known"
    SENT = "this end's results are sent"
    EXCHANGED = "both ends know both results"
    OVER = "the sinks know the end"


class LifecycleStep(enum.Enum):
    """An input of the table: a verb of `RunningTest`."""

    START = "start"
    STOP = "stop"
    COUNT_LATE = "count_late"
    TAKE_RESULTS = "take_results"
    SHOW_OUTPUT = "show_output"
    SEND_RESULTS = "results"
    CONCLUDE = "conclude"
    FAIL = "fail"


Table = Mapping[Stage, Mapping[LifecycleStep, Stage]]


def _table(steps: Mapping[Stage, Mapping[LifecycleStep, Stage]]) -> Table:
    """The steps, and those that are allowed at every stage once data flows."""
    started = [stage for stage in Stage if stage not in (Stage.READY, Stage.OVER)]
    anywhere: dict[Stage, dict[LifecycleStep, Stage]] = {
        stage: {LifecycleStep.FAIL: Stage.OVER, LifecycleStep.STOP: stage} for stage in started
    }
    anywhere[Stage.OVER] = {LifecycleStep.STOP: Stage.OVER, LifecycleStep.FAIL: Stage.OVER}
    return {stage: {**anywhere.get(stage, {}), **steps.get(stage, {})} for stage in Stage}


CLIENT = _table(
    {
        Stage.READY: {LifecycleStep.START: Stage.RUNNING},
        Stage.RUNNING: {LifecycleStep.STOP: Stage.STOPPED},
        Stage.STOPPED: {LifecycleStep.COUNT_LATE: Stage.COUNTED},
        Stage.COUNTED: {LifecycleStep.SEND_RESULTS: Stage.SENT},
        Stage.SENT: {LifecycleStep.TAKE_RESULTS: Stage.EXCHANGED},
        Stage.EXCHANGED: {LifecycleStep.CONCLUDE: Stage.OVER},
    }
)
SERVER = _table(
    {
        Stage.READY: {LifecycleStep.START: Stage.RUNNING},
        Stage.RUNNING: {LifecycleStep.STOP: Stage.STOPPED},
        Stage.STOPPED: {LifecycleStep.TAKE_RESULTS: Stage.INFORMED},
        Stage.INFORMED: {LifecycleStep.COUNT_LATE: Stage.COUNTED},
        Stage.COUNTED: {
            LifecycleStep.SHOW_OUTPUT: Stage.COUNTED,
            LifecycleStep.SEND_RESULTS: Stage.EXCHANGED,
        },
        Stage.EXCHANGED: {LifecycleStep.CONCLUDE: Stage.OVER},
    }
)

ALONE = _table(
    {
        Stage.READY: {LifecycleStep.START: Stage.RUNNING},
        Stage.RUNNING: {LifecycleStep.STOP: Stage.STOPPED},
        Stage.STOPPED: {LifecycleStep.COUNT_LATE: Stage.COUNTED},
        Stage.COUNTED: {LifecycleStep.CONCLUDE: Stage.OVER},
    }
)

TABLES: Mapping[Role, Table] = {Role.CLIENT: CLIENT, Role.SERVER: SERVER}


class Lifecycle:
    """The stage of one test. `alone`: the peer has no control connection."""

    def __init__(self, role: Role, *, alone: bool = False) -> None:
        self.stage = Stage.READY
        self._table = ALONE if alone else TABLES[role]

    def take(self, step: LifecycleStep) -> Stage:
        """Go on by this step, and return the stage before it. Raises `RuntimeError` if it is out of order."""
        before = self.stage
        following = self._table[before].get(step)
        if following is None:
            raise RuntimeError(f"{step.value} is out of order while {before.value}")
        self.stage = following
        return before
