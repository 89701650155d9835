"""The common part of the JSON documents of a diagnosis, a comparison and message latencies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from iperfpy.records import finite
from iperfpy.store.iperf3_document import INTERRUPTED, time_of

Json = dict[str, Any]


class Measured(Protocol):
    """The facts that every report has."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def unix_time(self) -> float: ...

    @property
    def version(self) -> str: ...

    @property
    def system_info(self) -> str: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    @property
    def error(self) -> str: ...

    @property
    def stopped(self) -> bool: ...


def document_of(report: Measured, start: Json, results: Json) -> Json:
    """The whole document: JSON values only; NaN and infinities become null.

    Parameters
    ----------
    start : facts that were known at the beginning, beside those of every report
    results : the other keys of the document
    """
    opening = {
        "version": report.version,
        "system_info": report.system_info,
        "timestamp": {"time": time_of(report.unix_time), "timesecs": int(report.unix_time)},
        "connecting_to": {"host": report.host, "port": report.port},
    }
    whole: Json = {"start": {**opening, **start}, **results, "warnings": list(report.warnings)}
    if report.error:
        whole["error"] = f"{INTERRUPTED}{report.error}" if report.stopped else report.error
    made: Json = finite(whole)
    return made


def write(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write a document and a line feed. Raises OSError."""
    stream.write(json.dumps(document, indent="\t", allow_nan=False) + "\n")
    stream.flush()
