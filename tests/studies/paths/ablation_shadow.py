"""Finds the mechanisms that never act in a simulation, by running it once.

Beside the controller under test runs a copy of it without each mechanism. Every copy gets the same calls. As
long as the window, the pacing rate and the burst of a copy are equal to the controller's after every call, a
simulation without that mechanism would send the same segments. If they are equal up to the end, the figures
are the same, and that simulation need not be run.

A switch changes modules, so every copy has modules of its own: the controller's package is imported again for
each mechanism, and the switch is applied to that import.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import ClassVar

from iperfpy.protocols.congestion.bbr import Bbr
from iperfpy.protocols.congestion.congestion_control import Ack, CongestionControl, Loss
from iperfpy.protocols.kcp import engine_factory
from tests.studies.paths import ablation
from tests.studies.paths.ablation import MECHANISMS, Patch
from tests.studies.paths.cases import Case
from tests.studies.paths.run import Outcome, run

_CONTROLLER = Bbr.__module__.rpartition(".")[0]
_SWITCHES = ablation.__name__


@cache
def _copy_without(key: str) -> Callable[..., CongestionControl]:
    """Import the controller once more, switch the mechanism off in it, and return its class."""
    taken = {name: sys.modules.pop(name) for name in list(sys.modules) if _belongs(name)}
    try:
        copy = importlib.import_module(_CONTROLLER)
        # The switches are imported again, too, so that they refer to the copy's modules.
        switches = importlib.import_module(_SWITCHES)
        switches.MECHANISMS[key].switch_off(switches.Patch())
        made: Callable[..., CongestionControl] = copy.Bbr
        return made
    finally:
        for name in [name for name in sys.modules if _belongs(name)]:
            del sys.modules[name]
        sys.modules.update(taken)
        for name, module in taken.items():  # an import also sets an attribute of the parent package
            _attach(name, module)


def _belongs(name: str) -> bool:
    return name in (_CONTROLLER, _SWITCHES) or name.startswith(_CONTROLLER + ".")


def _attach(name: str, module: ModuleType) -> None:
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, module)


class Shadowed:
    """A controller, and copies of it that get the same calls.

    Parameters
    ----------
    equal : keys of the copies that have sent the same so far; all controllers of a simulation share the set
    arguments : arguments of the controller and of its copies
    """

    name: ClassVar[str] = "bbr"

    def __init__(self, equal: set[str], *arguments: int) -> None:
        self._control: CongestionControl = Bbr(*arguments)
        self._equal = equal
        self._copies = {key: _copy_without(key)(*arguments) for key in equal}
        self._compare()

    @property
    def window(self) -> int:
        return self._control.window

    @property
    def pacing_rate(self) -> float:
        return self._control.pacing_rate

    @property
    def burst(self) -> int:
        return self._control.burst

    def state(self) -> Mapping[str, float | int | str | None]:
        return self._control.state()

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None:
        self._control.on_sent(now_us, segments, in_flight)
        for copy in self._copies.values():
            copy.on_sent(now_us, segments, in_flight)

    def on_ack(self, ack: Ack) -> None:
        self._control.on_ack(ack)
        for copy in self._copies.values():
            copy.on_ack(ack)
        self._compare()

    def on_loss(self, loss: Loss) -> None:
        self._control.on_loss(loss)
        for copy in self._copies.values():
            copy.on_loss(loss)
        self._compare()

    def on_timeout(self, now_us: int) -> None:
        self._control.on_timeout(now_us)
        for copy in self._copies.values():
            copy.on_timeout(now_us)
        self._compare()

    def on_idle(self, now_us: int) -> None:
        self._control.on_idle(now_us)
        for copy in self._copies.values():
            copy.on_idle(now_us)
        self._compare()

    def _compare(self) -> None:
        """Drop the copies that would send something else now, and those that another flow has dropped."""
        control = self._control
        window, pace, burst = control.window, control.pacing_rate, control.burst
        gone = [
            key
            for key, copy in self._copies.items()
            if key not in self._equal or (copy.window, copy.pacing_rate, copy.burst) != (window, pace, burst)
        ]
        for key in gone:
            del self._copies[key]
            self._equal.discard(key)


Shadows = tuple[Outcome, list[Outcome]]
"""The outcome with every mechanism, and the outcomes without each mechanism that never acted."""


def run_with_shadows(job: tuple[Case, int], keys: Iterable[str] = MECHANISMS) -> Shadows:
    """Run one simulation of a case and a seed in the place of many.

    Parameters
    ----------
    keys : mechanisms that are examined
    """
    equal = set(keys)
    patch = Patch()
    try:
        # The engine's profile is the one place that makes controllers.
        patch.put(engine_factory, "Bbr", lambda *arguments: Shadowed(equal, *arguments))
        outcome = run(*job)
    finally:
        patch.restore()
    return outcome, [replace(outcome, without=key) for key in MECHANISMS if key in equal]
