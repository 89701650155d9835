"""Figures from what the program leaves: documents of JSON, and files of CSV.

Keys are required: a renamed one raises KeyError, here and in the test that reads the product's own documents.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BIDIRECTIONAL = ("sum_received", "sum_received_bidir_reverse")


def comparison_rates(document: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Steady rates, bit/s, of a comparison's tests: {contender: {direction: rate}}, 0 for a failed test."""
    rates: dict[str, dict[str, float]] = {}
    for one in document["tests"]:
        rates.setdefault(one["contender"], {})[one["direction"]] = one["steady_bits_per_second"] or 0.0
    return rates


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
