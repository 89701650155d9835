"""Figures from what the program leaves: documents of JSON, and files of CSV.

Keys are required: a renamed one raises KeyError, here and in the test that reads the product's own documents.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BIDIRECTIONAL = ("sum_received", "sum_received_bidir_reverse")


def comparison_peaks(document: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Highest rates of an interval, bit/s, of a comparison's tests: {contender: {direction: rate}}.

    0 for a test with an error. Not the steady rates: if the machine has much other work, a test of a second
    may have too few intervals for one.
    """
    peaks: dict[str, dict[str, float]] = {}
    for one in document["tests"]:
        rates = (
            [] if one["error"] else [rate for rate in one["series"]["bits_per_second"] if rate is not None]
        )
        peaks.setdefault(one["contender"], {})[one["direction"]] = max(rates, default=0.0)
    return peaks


def received_rates(document: Mapping[str, Any], keys: tuple[str, ...] = ("sum_received",)) -> list[float]:
    """The receivers' bit/s of a test's document, one for each key of its `end`; zeros if it failed."""
    if "error" in document:
        return [0.0] * len(keys)
    return [float(document["end"][key]["bits_per_second"]) for key in keys]


def received_bytes(file: Path) -> int:
    """The receiver's payload bytes in a row of sums of a CSV file; 0 without such a row."""
    with file.open(newline="") as text:
        rows = [row for row in csv.DictReader(text) if row["type"] == "sum"]
    return max((int(row["receiver_bytes"] or 0) for row in rows), default=0)
