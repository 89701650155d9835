"""The common part of the JSON documents of a diagnosis, a comparison and message latencies, both ways:

report --document_of--> document
document --common_facts, in `reading`--> the fields that every report has
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TextIO, TypedDict

from iperfpy.errors import DocumentError
from iperfpy.records import EndFacts, finite
from iperfpy.store.document_part import DocumentPart
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
    def server_version(self) -> str: ...

    @property
    def server_system_info(self) -> str: ...

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
    opening: Json = {
        "version": report.version,
        "system_info": report.system_info,
        "timestamp": {"time": time_of(report.unix_time), "timesecs": int(report.unix_time)},
        "connecting_to": {"host": report.host, "port": report.port},
    }
    if told := EndFacts(report.server_version, report.server_system_info).record():
        opening["server"] = told
    whole: Json = {"start": {**opening, **start}, **results, "warnings": list(report.warnings)}
    if report.error:
        whole["error"] = f"{INTERRUPTED}{report.error}" if report.stopped else report.error
    made: Json = finite(whole)
    return made


def write(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write a document and a line feed. Raises OSError."""
    stream.write(json.dumps(document, indent="\t", allow_nan=False) + "\n")
    stream.flush()


# -- reading


class CommonFacts(TypedDict):
    """The keyword arguments that every report has."""

    host: str
    port: int
    unix_time: float
    version: str
    system_info: str
    server_version: str
    server_system_info: str
    warnings: tuple[str, ...]
    error: str
    stopped: bool


def common_facts(whole: DocumentPart) -> CommonFacts:
    """The fields of a report that its document has at the same keys as the others. Raises `ValueError`."""
    start = whole.part("start")
    peer, error = start.part("connecting_to"), whole.text("error", "")
    told = told_by_server(start)
    if "unix_time" in start.values:
        unix_time = start.unix_time("unix_time")
    else:  # a diagnosis has whole seconds
        unix_time = start.part("timestamp").unix_time("timesecs")
    return {
        "host": peer.text("host"),
        "port": peer.whole("port"),
        "unix_time": unix_time,
        "version": start.text("version"),
        "system_info": start.text("system_info"),
        "server_version": told.version,
        "server_system_info": told.system_info,
        "warnings": whole.texts("warnings"),
        "error": error.removeprefix(INTERRUPTED),
        "stopped": error.startswith(INTERRUPTED),
    }


def told_by_server(start: DocumentPart) -> EndFacts:
    """The account that the server gave of itself, by `start` of a document; earlier versions have none."""
    if "server" not in start.values:
        return EndFacts()
    told = start.part("server")
    return EndFacts(told.text("version", ""), told.text("system_info", ""))


@contextlib.contextmanager
def reading(noun: str) -> Iterator[None]:
    """Around the reader of a document: a damaged value is a `DocumentError`. `noun`: "a comparison"."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise DocumentError(f"it is not the document of {noun}: {error}") from error
