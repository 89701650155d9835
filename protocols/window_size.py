"""The window that fills a path, in segments, for a sender without congestion control.

A transport warns about a window that is many times as large, and a diagnosis recommends one: both give the
same number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from iperfpy.protocols.metrics import Meaning, Metric, Value, number, with_meaning

_FEWEST = 4

ROOM = 1.25
"""Recommended window over bandwidth x round-trip time. In simulations of stock KCP (20 Mbit/s, 40 ms, a queue
of one bandwidth-delay product) 1.1 to 1.25 carried 0.95 of the rate and 2 only 0.7: a window leaves at once,
and the queue drops a part of it. Behind shorter queues no window carries more than two thirds."""


def enough_segments(payload_bits_per_s: float, rtt_us: float, payload_bytes: float) -> int:
    """Segments that fill a path.

    Parameters
    ----------
    payload_bits_per_s, rtt_us : rate and shortest round-trip time of the path
    payload_bytes : of a segment
    """
    return max(_FEWEST, math.ceil(ROOM * payload_bits_per_s * rtt_us / 8e6 / payload_bytes))


def enough_of(sender: Mapping[str, Value], metrics: Sequence[Metric]) -> int | None:
    """The segments that fill the path by the figures of a whole test.

    None if the figures do not tell, or if the sender does not count segments (`Meaning.FULL_PAYLOAD`).

    Parameters
    ----------
    sender : by metric key, and the acknowledged payload under `bytes`
    metrics : those of the transport
    """
    payload = sum(_values(sender, metrics, Meaning.FULL_PAYLOAD))
    carried, min_rtt_us = number(sender.get("bytes")), number(sender.get("min_rtt_us"))
    seconds = limited_s(sender, metrics)
    if not (carried and min_rtt_us and payload and seconds):
        return None
    return enough_segments(8 * carried / seconds, min_rtt_us, payload)


def limited_s(sender: Mapping[str, Value], metrics: Sequence[Metric]) -> float:
    """Seconds that a sender measured: the time of all its limits; one of them holds at any moment."""
    return sum(_values(sender, metrics, Meaning.SENDER_LIMIT)) / 1e6


def _values(sender: Mapping[str, Value], metrics: Sequence[Metric], meaning: Meaning) -> Iterator[float]:
    """The known figures with this meaning."""
    values = (number(sender.get(metric.key)) for metric in with_meaning(metrics, meaning))
    return (value for value in values if value is not None)
