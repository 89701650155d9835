"""The samples of a comparison: the figures of a stored run by transport and direction.

document of a test      a sample per direction
document of another     samples_of(document) asks the entry of its kind in READERS
document of a diagnosis no samples: its findings are compared, see `diagnosis_difference`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from iperfpy.errors import DocumentError
from iperfpy.plan import Direction
from iperfpy.store.direction_figures import TEST, DirectionFigures, directions_of, is_test
from iperfpy.store.folder import STORED

DIAGNOSE = "diagnose"
KIND = "kind"
"""Top-level key by which a document of another command than a test names its kind."""

WAYS = {Direction.FORWARD: "up", Direction.REVERSE: "down", Direction.BIDIRECTIONAL: "both"}
"""Direction -> its name, seen from the client."""


@dataclass(frozen=True, slots=True)
class Group:
    """The runs that are compared with each other.

    Parameters
    ----------
    transport : with the sender's congestion control, such as "tcp bbr"
    direction : FORWARD or REVERSE
    loaded_both_ways : True if the other direction carried data at the same time
    """

    transport: str
    direction: Direction
    loaded_both_ways: bool = False

    @property
    def name(self) -> str:
        """`kcp-bbr down`, `kcp-bbr down (of both)`."""
        return f"{self.transport} {WAYS[self.direction]}{' (of both)' if self.loaded_both_ways else ''}"


@dataclass(frozen=True, slots=True)
class RunSample:
    """One run of one group.

    Parameters
    ----------
    figures : by the names of `difference.FIGURES`; None: not known
    series : bit/s of each interval
    interval_s : length of an interval
    """

    group: Group
    figures: Mapping[str, float | None]
    series: tuple[float, ...] = field(default=(), repr=False)
    interval_s: float = 0.0


Reader = Callable[[Mapping[str, Any]], tuple[RunSample, ...]]


def kind_of(document: Mapping[str, Any]) -> str:
    """The kind of a stored or printed document; empty if it is not a run."""
    stored = document.get(STORED)
    named = stored.get("kind") if isinstance(stored, Mapping) else document.get(KIND)
    if isinstance(named, str) and named:
        return named
    if is_test(document):
        return TEST
    return DIAGNOSE if {"directions", "idle", "start"} <= document.keys() else ""


def samples_of(document: Mapping[str, Any]) -> tuple[RunSample, ...]:
    """The samples of a run; none if it failed before it had a result.

    Raises
    ------
    DocumentError
        The document is damaged, or nothing in it can be compared.
    """
    kind = kind_of(document)
    reader = READERS.get(kind)
    if reader is None:
        raise DocumentError(f"a run of the kind {kind!r} has no figures to compare" if kind else "not a run")
    return reader(document)


def _samples_of_test(document: Mapping[str, Any]) -> tuple[RunSample, ...]:
    found = directions_of(document)
    return tuple(_sample(one, both=len(found) > 1) for one in found)


def _sample(one: DirectionFigures, *, both: bool) -> RunSample:
    return RunSample(Group(one.transport, one.direction, both), one.headline(), one.series, one.interval_s)


READERS: dict[str, Reader] = {TEST: _samples_of_test}
"""Kind -> the function that reads the samples of its document."""
