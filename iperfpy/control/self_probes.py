"""The self probes of the sending end, in its results: round-trip times of its streams by interval.

    "self_probes": {"first": INDEX, "us": ["81034,81101,...", "", ...]}

Only ends that both name the feature `RESPONSIVENESS` exchange it. `first` is the index of the first interval;
each text has the times of one interval in whole microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy.control.parameters import json_integer

SELF_PROBES = "self_probes"
"""Key of the extension in results."""
MOST_INTERVALS, MOST_TIMES = 7, 100
"""Limits of one document, as `sampling.responsiveness` keeps them."""
LONGEST_US = 3_600_000_000
_LONGEST_TEXT = MOST_TIMES * (len(str(LONGEST_US)) + 1)

SelfProbes = Mapping[int, Sequence[float]]
"""Index of an interval -> round-trip times in microseconds."""


def encode_self_probes(probes: SelfProbes) -> dict[str, Any]:
    """The document of the latest intervals; empty if no interval has a time."""
    known = [index for index, times in probes.items() if times]
    if not known:
        return {}
    first = max(min(known), max(known) - MOST_INTERVALS + 1)
    texts = [
        ",".join(str(round(us)) for us in list(probes.get(index, ()))[:MOST_TIMES])
        for index in range(first, max(known) + 1)
    ]
    return {SELF_PROBES: {"first": first, "us": texts}}


def decode_self_probes(extension: object) -> SelfProbes:
    """The self probes in a peer's extension; empty if it sent none, or something else in their place.

    A wrong time of a peer is left out: it ends no test.
    """
    body = extension.get(SELF_PROBES) if isinstance(extension, Mapping) else None
    if not isinstance(body, Mapping):
        return {}
    first, texts = json_integer(body.get("first")), body.get("us")
    if first is None or not isinstance(texts, list):
        return {}
    return {first + place: _times(text) for place, text in enumerate(texts[:MOST_INTERVALS])}


def _times(text: object) -> list[float]:
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        return []
    words = text.split(",")[:MOST_TIMES]
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    return [float(us) for us in numbers if 0 < us <= LONGEST_US]
