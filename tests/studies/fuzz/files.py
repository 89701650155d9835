"""Harnesses of files that a user got from somewhere: documents of runs, the index, traces, paths."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import os
from collections.abc import Mapping
from functools import cache
from typing import Any
from unittest.mock import patch

from iperfpy.diagnosis.path_report import PathReport
from iperfpy.errors import DocumentError
from iperfpy.protocols.simulator import csv_trace, trace_file
from iperfpy.protocols.simulator.path_language import PathTextError, describe, parse
from iperfpy.protocols.simulator.presets import PRESETS
from iperfpy.protocols.simulator.trace_file import LATEST_MS, TraceError, write_trace
from iperfpy.report import compare_document, diagnosis_document, latency_document
from iperfpy.store.diagnosis_difference import diagnosis_changes
from iperfpy.store.difference import differences
from iperfpy.store.direction_figures import about_test
from iperfpy.store.run_index import COMPARE, DIAGNOSE, LATENCY, IndexEntry, entry_of
from iperfpy.store.run_recorder import RunRecorder
from iperfpy.store.run_samples import kind_of, samples_of
from iperfpy.store.stored_run import Run
from tests.iperfpy.report import compare_scenes, diagnosis_scenes
from tests.iperfpy.report.latency_scenes import latency_report
from tests.iperfpy.report.scenes import SCENES
from tests.iperfpy.store.test_iperf3_reader import tcp

MOST_STAMPS = 2_000
"""Most lines of a trace made from a table: a row of an input can ask for millions."""


def _object(raw: bytes) -> dict[str, Any] | None:
    """The JSON object, as `iperfpy.store.folder.read_document` takes it."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


# ------------------------------------------------------------------ documents


def printed_run(data: bytes) -> None:
    """The document of iperf3, or of a plug-in that is not installed, as `iperfpy show` and `diff` read it."""
    document = _object(data)
    if document is None:
        return
    with contextlib.suppress(DocumentError):
        run = Run.from_document(document)
        json.dumps(run.document(), allow_nan=False)
    with contextlib.suppress(DocumentError):
        IndexEntry("name", about_test(document)).line()
    with contextlib.suppress(DocumentError):
        samples = samples_of(document)
        differences(samples, samples, None)


def printed_run_seeds() -> list[bytes]:
    made = [tcp(sends=sends, server=server) for sends in (True, False) for server in (True, False)]
    for scene in SCENES.values():
        recorder = RunRecorder()
        scene().play(recorder)
        made.append(recorder.run().document())
    datagrams = tcp(sends=False)
    datagrams["start"]["test_start"]["protocol"] = "UDP"
    counts = {"jitter_ms": 0.5, "lost_packets": 10, "packets": 100, "lost_percent": 10, "out_of_order": 2}
    datagrams["intervals"][0]["streams"][0] |= counts
    datagrams["end"]["streams"] = [{"udp": {**datagrams["end"]["streams"][0]["sender"], **counts}}]
    return [json.dumps(one).encode() for one in (*made, datagrams)]


def experiment(data: bytes) -> None:
    """The documents of `compare`, `latency` and `diagnose`."""
    document = _object(data)
    if document is None:
        return
    kind = kind_of(document)
    with contextlib.suppress(DocumentError):
        samples = samples_of(document)
        differences(samples, samples, None)
    if kind == DIAGNOSE:
        with contextlib.suppress(DocumentError):
            diagnosis_changes([document], [document], 0.05)
    with contextlib.suppress(DocumentError):
        json.dumps(_again(kind, document), allow_nan=False)


def _again(kind: str, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document of the report that is read from a document."""
    if kind == COMPARE:
        return compare_document.document(compare_document.read(document))
    if kind == LATENCY:
        return latency_document.document(latency_document.read(document))
    if kind == DIAGNOSE:
        return diagnosis_document.document(diagnosis_document.read(document))
    return {}


def experiment_seeds() -> list[bytes]:
    reports: list[PathReport] = [scene() for scene in diagnosis_scenes.SCENES.values()]
    made = [diagnosis_document.document(one) for one in reports]
    made += [compare_document.document(scene()) for scene in compare_scenes.SCENES.values()]
    made.append(latency_document.document(latency_report()))
    return [json.dumps(one).encode() for one in made]


def index(data: bytes) -> None:
    """A line of the index of runs."""
    try:
        entry = entry_of(json.loads(data))
    except (ValueError, RecursionError):
        return
    assert "/" not in entry.id
    entry.line()


def index_seeds() -> list[bytes]:
    return [IndexEntry("20261129-152657", about_test(one)).line() for one in (tcp(), tcp(sends=False))]


# ------------------------------------------------------------------ paths and traces


def path_text(data: bytes) -> None:
    """A path that can be read has a text that means the same. Files are left out."""
    text = data.decode("utf-8", "replace")
    if "trace" in text:
        return
    try:
        there, back = parse(text)
    except PathTextError:
        return
    assert parse(describe(there, back)) == (there, back)


def path_text_seeds() -> list[bytes]:
    texts = [
        "20M,delay=85ms,queue=1bdp,loss=1 down:rate=5M @5s:rate=10M @8s:down:loss=100",
        "rate=5M,delay=9,jitter=2ms,reorder=1,ge=1/20/50/0,lossat=pre,police=20M/192k,dup=1,corrupt=.5",
        "1G,late=5ms/2,agg=5ms/30ms,alt=40ms/25,codel=5ms/100ms,walk=100ms/0.5/0.9,maxlen=1400 @1s:outage=1",
        *(f"preset={name},loss=1" for name in list(PRESETS)[:3]),
        *(preset.path for preset in list(PRESETS.values())[:2]),
    ]
    return [text.encode() for text in texts]


@cache
def _scratch() -> int:
    """The descriptor of a file in memory for the inputs: opening one on a disk takes a millisecond."""
    return os.memfd_create("input")


def trace(data: bytes) -> None:
    """The first byte chooses a trace of mahimahi's or a table."""
    descriptor = _scratch()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data[1:], 0)
    path = f"/proc/self/fd/{descriptor}"
    try:
        if data[:1] < b"\x80":
            trace_file._checked.cache_clear()
            stamps = trace_file.read_trace(path).stamps_ms
        else:
            with patch.object(csv_trace, "MOST_STAMPS", MOST_STAMPS):
                stamps = csv_trace.stamps_from_csv(path, ms_per_unit=1e3, bits_per_s_per_unit=1e6)
    except TraceError:
        return
    assert len(stamps)
    assert 0 <= stamps[0] <= stamps[-1] <= LATEST_MS
    assert (stamps[1:] >= stamps[:-1]).all()
    write_trace(io.StringIO(), stamps)


def trace_seeds() -> list[bytes]:
    plain, table = b"0\n3\n3\r\n17\n", b"# a table\ntime,rate\n0,1.5\n1,0\n2.5e0;3\n"
    packed = [gzip.compress(plain, mtime=0), lzma.compress(plain)]
    return [b"\0" + each for each in (plain, *packed)] + [
        b"\xff" + each for each in (table, table.lower()[10:])
    ]
