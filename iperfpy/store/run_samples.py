"""The samples of a comparison: the figures of a stored run by transport and direction.

document of a test      a sample per direction
document of another     samples_of(document) asks the entry of its kind in READERS
document of a diagnosis no samples: its findings are compared, see `diagnosis_difference`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from iperfpy.errors import DocumentError
from iperfpy.plan import WAYS, Direction
from iperfpy.sampling.message_figures import percentile
from iperfpy.store.direction_figures import DirectionFigures, directions_of, is_test
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.folder import STORED
from iperfpy.store.run_index import COMPARE, DIAGNOSE, LATENCY, TEST

KEYS = {
    DIAGNOSE: {"start", "directions", "idle"},
    COMPARE: {"start", "standings", "tests"},
    LATENCY: {"start", "rows", "end"},
}
"""Kind -> keys by which a document that was not stored is known."""
KIND = "kind"
"""Key of a document for its kind, where it names one."""


@dataclass(frozen=True, slots=True)
class Group:
    """The runs that are compared with each other.

    Parameters
    ----------
    transport : with the sender's congestion control, such as "tcp bbr"
    direction : FORWARD or REVERSE; BIDIRECTIONAL for messages, which go there and back
    loaded_both_ways : True if the other direction carried data at the same time
    steady : True if the rate leaves out the start-up
    detail : further facts that runs of a group share, such as "100 bytes, 100/s, idle"
    """

    transport: str
    direction: Direction
    loaded_both_ways: bool = False
    steady: bool = False
    detail: str = ""

    @property
    def name(self) -> str:
        """`kcp-bbr down`, `kcp-bbr down (of both)`, `kcp-bbr down (steady)`, `kcp-bbr messages`."""
        notes = [" (of both)"] * self.loaded_both_ways + [" (steady)"] * self.steady
        notes += [f" ({self.detail})"] if self.detail else []
        return f"{self.transport} {WAYS.get(self.direction, 'messages')}{''.join(notes)}"


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
    return next((kind for kind, keys in KEYS.items() if keys <= document.keys()), "")


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


def _samples_of_comparison(document: Mapping[str, Any]) -> tuple[RunSample, ...]:
    """A sample per test, and per round of messages, that did not fail. Raises `DocumentError`."""
    try:
        whole = DocumentPart(document)
        tests, rounds = (
            [one for one in whole.parts(name, ()) if not one.text("error", "")]
            for name in ("tests", "messages")
        )
        return (*map(_test_sample, tests), *map(_message_sample, rounds))
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentError(f"the tests of the comparison cannot be read: {error}") from error


def _test_sample(one: DocumentPart) -> RunSample:
    figures = {
        "bits_per_second": one.number_or_none("steady_bits_per_second"),
        "rtt_us": one.part("rtt_us").number_or_none("p50"),
        "resent_percent": one.number_or_none("resent_percent"),
        "loss_percent": one.number_or_none("loss_percent"),
    }
    group = Group(one.text("contender"), Direction(one.text("direction")), steady=True)
    return RunSample(group, figures)


def _message_sample(one: DocumentPart) -> RunSample:
    times = [float(value) for value in one.values.get("round_trip_us", ()) if type(value) in (int, float)]
    return RunSample(Group(one.text("contender"), Direction.BIDIRECTIONAL), message_figures(times))


def _samples_of_messages(document: Mapping[str, Any]) -> tuple[RunSample, ...]:
    """A sample per row and round that did not fail. Raises `DocumentError`."""
    try:
        rows = [one for one in DocumentPart(document).parts("rows") if not one.text("error", "")]
        return tuple(_round_sample(row, one) for row in rows for one in row.parts("rounds"))
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentError(f"the message tests cannot be read: {error}") from error


def _round_sample(row: DocumentPart, one: DocumentPart) -> RunSample:
    """One round of a row: percentiles of the answered messages, and the share of the others."""
    load, direction = row.part("load").text("name"), row.part("load").values.get("direction")
    parts = (f"{row.whole('size_bytes')} bytes", f"{row.number('messages_per_s'):g}/s", load, direction)
    group = Group(
        row.text("name"), Direction.BIDIRECTIONAL, detail=", ".join(str(part) for part in parts if part)
    )
    times = one.values["round_trip_us"]
    answered = [float(value) for value in times if type(value) in (int, float)]
    lost = {"loss_percent": 100 * (1 - len(answered) / len(times)) if times else None}
    return RunSample(group, {**message_figures(answered), **lost})


def message_figures(round_trip_us: Sequence[float]) -> dict[str, float | None]:
    """Percentiles of the times of messages; each needs 10 messages beyond it."""
    samples = np.asarray(round_trip_us, np.float64)
    return {"message_p95_us": percentile(samples, 95.0), "message_p99_us": percentile(samples, 99.0)}


READERS: dict[str, Reader] = {
    TEST: _samples_of_test,
    COMPARE: _samples_of_comparison,
    LATENCY: _samples_of_messages,
}
"""Kind -> the function that reads the samples of its document."""
