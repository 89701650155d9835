"""A plug-in's transport that declares the meanings of its metrics, under keys that no other transport has."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Unit, Value
from iperfpy.records import Row, RunEnded, Sample
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.pictures.picture_scenes import run_of
from tests.iperfpy.report.scenes import CPU, Scene, SceneTransport, start_of

_PERCENT, _US, _BYTES = Unit.PERCENT, Unit.MICROSECONDS, Unit.BYTES


class Meaningful(SceneTransport):
    """A transport whose keys say nothing."""

    header_bytes = 20
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("out", "Packets sent"),
        Metric("again", "Packets sent again"),
        Metric("in_", "Packets that arrived", side=Side.RECEIVER),
        Metric(
            "gone", "", _PERCENT, Kind.MISSING, numerator="in_", denominator="out", meaning=Meaning.PATH_LOSS
        ),
        Metric("all", "", _PERCENT, Kind.RATIO, numerator="again", denominator="out", meaning=Meaning.RESENT),
        Metric(
            *("nagged", "", _PERCENT, Kind.RATIO),
            numerator="again",
            denominator="out",
            meaning=Meaning.RESENT_CAUSE,
            label="request",
        ),
        Metric(
            *("useless", "", _PERCENT, Kind.RATIO),
            numerator="again",
            denominator="again",
            meaning=Meaning.RESENT_IN_VAIN,
        ),
        Metric("a", "", _US, meaning=Meaning.SENDER_LIMIT, label="credit"),
        Metric("b", "", _US, meaning=Meaning.SENDER_LIMIT, label="send window"),
        Metric("c", "", _US, meaning=Meaning.SENDER_LIMIT, label="disk"),
        Metric("room", "", _BYTES, Kind.GAUGE, meaning=Meaning.WINDOW, label="credit"),
        Metric("size", "", _BYTES, Kind.GAUGE, meaning=Meaning.FULL_DATAGRAM),
        Metric("part", "", _BYTES, Kind.GAUGE, meaning=Meaning.FULL_PAYLOAD),
    )


SENT: dict[str, Value] = {
    "out": 100,
    "again": 5,
    "all": 5.0,
    "nagged": 5.0,
    "useless": 100.0,
    "gone": 4.0,
    "a": 200_000,
    "b": 700_000,
    "c": 100_000,
    "room": 64_000,
    "size": 1_200,
    "part": 1_000,
}
ARRIVED: dict[str, Value] = {"in_": 96}


def meaningful_run() -> Run:
    """Three intervals of one second, each with the same figures."""
    start = start_of(Direction.FORWARD)
    start = replace(start, transport=Meaningful())
    rows = [_row(second * 1_000_000, 1_000_000) for second in range(3)]
    whole = _row(0, 3_000_000)
    return run_of(Scene(start, tuple((row,) for row in rows), RunEnded((whole,), CPU)))


def _row(start_us: int, length_us: int) -> Row:
    end_us = start_us + length_us
    sender = Sample(1, Side.SENDER, start_us, end_us, 100_000, SENT)
    return Row(1, sender, Sample(1, Side.RECEIVER, start_us, end_us, 96_000, ARRIVED))
