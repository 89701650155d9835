"""Our JSON against iperf3's: the same keys and types, one schema, true sums, and a parser made for iperf3."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest
from iperf3 import TestResult as Parsed
from jsonschema import Draft202012Validator

from iperfpy.protocols.metrics import Kind, Side
from iperfpy.protocols.registry import transport
from iperfpy.store.stored_run import Run as StoredRun
from tests.interop.conftest import iperf3_serving, peer
from tests.interop.documents import MODES, OURS_ALONE, PAIRS, Json, Run, all_runs
from tests.interop.free_port import free_port
from tests.interop.programs import OURS, Program, finished
from tests.warm_program import WarmProgram

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
WITH_OURS = [pair for pair in PAIRS if "ours" in pair]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Run]:
    programs: dict[str, Program] = {"ours": OURS}
    found = shutil.which("iperf3")
    if found or os.environ.get("IPERFPY_REQUIRE_PEERS") == "1":
        programs["iperf3"] = [found or peer("iperf3")]
    return all_runs(programs, tmp_path_factory.mktemp("json"))


def require_run(runs: dict[tuple[str, str], Run], mode: str, pair: str) -> Run:
    if (mode, pair) not in runs:
        peer("iperf3")
    return runs[mode, pair]


# ---------------------------------------------------------------------- the same keys and types


def differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    """List keys that ours lacks or has with another type. Additional keys are no difference."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key not in ours:
                yield f"{path}.{key} is missing"
            elif key != "bits_per_second" or ours.get("seconds") != 0:  # no time, no rate
                yield from differences(value, ours[key], f"{path}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        # Two runs may differ by an interval; further intervals are compared with the last one.
        if path != ".intervals" and len(theirs) != len(ours):
            yield f"{path} has {len(ours)} elements, not {len(theirs)}"
        for index, value in enumerate(ours):
            yield from differences(theirs[min(index, len(theirs) - 1)], value, f"{path}[{index}]")
    elif kind(theirs) != kind(ours):
        yield f"{path} is {ours!r}, not like {theirs!r}"


def kind(value: object) -> str:
    return (
        "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    )


@pytest.mark.parametrize("pair", WITH_OURS)
@pytest.mark.parametrize("mode", MODES)
def test_every_key_of_iperf3_is_present_with_its_type(
    runs: dict[tuple[str, str], Run], mode: str, pair: str
) -> None:
    reference, run = require_run(runs, mode, "iperf3 and iperf3"), require_run(runs, mode, pair)
    for role in run.ours:
        assert list(differences(getattr(reference, role), getattr(run, role))) == []


def test_the_parameters_of_a_test_are_shown_as_iperf3_shows_them(runs: dict[tuple[str, str], Run]) -> None:
    """Apart from measured values, both programs print the same for the same command line."""
    for mode in MODES:
        theirs = require_run(runs, mode, "iperf3 and iperf3").client["start"]
        ours = require_run(runs, mode, "ours and iperf3").client["start"]
        assert theirs["test_start"].items() <= ours["test_start"].items()
        for key in ("target_bitrate", "sock_bufsize", "tcp_mss"):
            assert theirs.get(key) == ours.get(key)
        if ours["sock_bufsize"]:
            assert theirs["sndbuf_actual"] == ours["sndbuf_actual"]
            assert theirs["rcvbuf_actual"] == ours["rcvbuf_actual"]


SINCE_3_12 = {
    "start": {"fq_rate"},
    "start.timestamp": {"timemillisecs"},
    "start.test_start": {"bidir", "fqrate", "interval", "gso", "gro"},
    "intervals.0.streams.0": {"reorder"},
    "end.streams.0.sender": {"reorder"},
}
"""Keys of 3.21 that 3.12 does not print."""


def test_the_keys_of_later_iperf3_versions_are_present(runs: dict[tuple[str, str], Run]) -> None:
    for path, keys in SINCE_3_12.items():
        inner: Any = require_run(runs, "tcp", "ours and ours").client
        for key in path.split("."):
            inner = inner[int(key)] if key.isdigit() else inner[key]
        assert all(type(inner.get(key)) in (int, float) for key in keys), path


# ---------------------------------------------------------------------- one schema


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("mode", MODES | OURS_ALONE)
def test_the_schema_accepts_the_documents_of_both_programs(
    runs: dict[tuple[str, str], Run], mode: str, pair: str
) -> None:
    if mode in OURS_ALONE and pair != "ours and ours":
        return
    run = require_run(runs, mode, pair)
    VALIDATOR.validate(run.client)
    VALIDATOR.validate(run.server)


# ---------------------------------------------------------------------- read back


@pytest.mark.parametrize("mode", MODES)
def test_documents_of_iperf3_are_read_as_runs(runs: dict[tuple[str, str], Run], mode: str) -> None:
    """Their figures are iperf3's sums, at either end, and they can be written and read again."""
    run = require_run(runs, mode, "iperf3 and iperf3")
    for document in (run.client, run.server):
        read = StoredRun.from_document(document)
        assert read.transport == mode.split()[0]
        assert read.plan.direction.value == {"bidir": "bidirectional", "reverse": "reverse"}.get(
            mode.split()[-1], "forward"
        )
        assert len(read.intervals) == len(document["intervals"])
        for interval, theirs in zip(read.intervals, document["intervals"], strict=True):
            assert interval.figure("bytes") == theirs["sum"]["bytes"]
            assert interval.omitted == theirs["sum"]["omitted"]
        for direction, suffix in zip(
            [row.direction for row in read.sums], ("", "_bidir_reverse"), strict=False
        ):
            theirs = document["end"][f"sum_received{suffix}"]
            if theirs["bytes"] and mode.startswith("tcp"):
                assert read.total("bytes", direction=direction) == theirs["bytes"]
        assert StoredRun.from_document(read.document()).document() == read.document()


# ---------------------------------------------------------------------- sums are the sums of their parts

ADDED = ("bytes", "retransmits")
COMPARED = ("packets", "lost_packets", "segments_sent", "datagrams_received", "datagrams_sent")
"""Counts that both ends compare: those of the whole test include what was under way when an end stopped."""


def groups(rows: list[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for row in rows:
        found.setdefault(row["direction"], []).append(row)
    return found


def check_sum(whole: Json, parts: list[Json], *, in_time: bool = False) -> None:
    """`in_time`: the parts are intervals, which know nothing of what came after the last of them."""
    for key in (*ADDED, *COMPARED):
        known = [part[key] for part in parts if part.get(key) is not None]
        if len(known) == len(parts) and whole.get(key) is not None:
            late = key in COMPARED and in_time
            assert whole[key] == sum(known) or (late and whole[key] > sum(known)), key
    assert whole["bytes"] == sum(part["bytes"] for part in parts)


def check_rate(figures: Json) -> None:
    assert figures["seconds"] == pytest.approx(figures["end"] - figures["start"], abs=1e-9)
    seconds, rate = figures["seconds"], figures["bits_per_second"]
    # A stream of --bidir may have ended before the last interval began.
    assert rate == (pytest.approx(figures["bytes"] * 8 / seconds, rel=1e-12) if seconds else None)


def check_sums(document: Json) -> None:
    suffix = {group[0]["direction"]: "" for group in groups(document["intervals"][0]["streams"]).values()}
    if len(suffix) == 2:
        suffix["reverse"] = "_bidir_reverse"
    for interval in document["intervals"]:
        for direction, rows in groups(interval["streams"]).items():
            check_sum(interval["sum" + suffix[direction]], rows)
            for figures in (*rows, interval["sum" + suffix[direction]]):
                check_rate(figures)
    # A row of an interval has the figures of one side; the totals have both.
    measured = [row for one in document["intervals"] for row in one["streams"] if not row["omitted"]]
    for side, name in (("sender", "sum_sent"), ("receiver", "sum_received")):
        for direction, rows in groups([one[side] for one in document["end"]["streams"]]).items():
            check_sum(document["end"][name + suffix[direction]], rows)
            for figures in (*rows, document["end"][name + suffix[direction]]):
                check_rate(figures)
            for whole in rows:
                parts = [row for row in measured if row["stream"] == whole["stream"] and row["side"] == side]
                if parts:
                    check_sum(whole, parts, in_time=True)
                    assert whole["end"] == parts[-1]["end"]


@pytest.mark.parametrize("pair", WITH_OURS)
@pytest.mark.parametrize("mode", MODES | OURS_ALONE)
def test_every_sum_is_the_sum_of_its_parts(runs: dict[tuple[str, str], Run], mode: str, pair: str) -> None:
    if mode in OURS_ALONE and pair != "ours and ours":
        return
    for document in require_run(runs, mode, pair).documents_of_ours():
        check_sums(document)


@pytest.mark.parametrize("mode", MODES | OURS_ALONE)
def test_the_intervals_of_every_counter_add_up(runs: dict[tuple[str, str], Run], mode: str) -> None:
    """The sums of the peer's figures, which arrive over the control connection, are checked too."""
    for document in require_run(runs, mode, "ours and ours").documents_of_ours():
        chosen = transport(document["start"]["transport"])
        metrics, delivery = chosen.metrics, chosen.delivery
        counters = [metric for metric in metrics if metric.kind is Kind.COUNTER]
        # Counts that both ends compare, and a receiver's, include for the whole test the segments that were
        # under way at its end, and those that the kernel sent after the last write.
        compared = set(COMPARED) | {
            metric.numerator for metric in metrics if metric.kind in (Kind.ACROSS, Kind.MISSING)
        }
        if delivery is not None:
            compared |= {delivery.sent, *delivery.receiver_keys}
        compared |= {metric.key for metric in counters if metric.side is Side.RECEIVER}
        measured = [row for one in document["intervals"] for row in one["streams"] if not row["omitted"]]
        checked = 0
        for stream in document["end"]["streams"]:
            rows = [row for row in measured if row["stream"] == stream["sender"]["stream"]]
            for metric in counters:
                parts = [row.get(metric.key) for row in rows]
                # An interval without the peer's figures has none of its counters, so they cannot add up.
                if rows and None not in parts:
                    whole = stream[metric.side.value][metric.key]
                    # The peer's last interval may end before its measured time does.
                    of_peer = rows[0]["side"] != metric.side.value
                    may_lack = of_peer or metric.key in compared
                    assert sum(parts) == whole or (may_lack and sum(parts) < whole), metric.key
                    checked += 1
        assert checked > 1 or not measured


@pytest.mark.parametrize("mode", MODES | OURS_ALONE)
def test_client_and_server_agree_on_every_figure(runs: dict[tuple[str, str], Run], mode: str) -> None:
    """With iperfpy at both ends, client and server agree on every figure of `end` but their roles."""
    run = require_run(runs, mode, "ours and ours")
    names = [name for name in run.client["end"] if name.startswith("sum")]
    assert names == [name for name in run.server["end"] if name.startswith("sum")]
    for name in names:
        here, there = run.client["end"][name], run.server["end"][name]
        different = {key for key in here if here[key] != there[key]} - {"role", "sender"}
        assert not different, name


# ---------------------------------------------------------------------- a parser written for iperf3


@pytest.mark.parametrize("pair", WITH_OURS)
@pytest.mark.parametrize("mode", MODES)
def test_a_parser_for_iperf3_reads_a_document_of_iperfpy(
    runs: dict[tuple[str, str], Run], mode: str, pair: str
) -> None:
    reference, run = require_run(runs, mode, "iperf3 and iperf3"), require_run(runs, mode, pair)
    for role in sorted(run.ours):
        document = getattr(run, role)
        theirs, ours = Parsed(json.dumps(getattr(reference, role))), Parsed(json.dumps(document))
        assert ours.error is None
        assert vars(ours).keys() == vars(theirs).keys()
        for key in (
            "protocol",
            "num_streams",
            "blksize",
            "omit",
            "duration",
            "remote_host",
            "type",
            "reverse",
        ):
            assert getattr(ours, key) == getattr(theirs, key)
        # The parser derives its figures from the sums of the document.
        end = document["end"]
        if ours.protocol == "TCP":
            assert (ours.sent_bytes, ours.received_bytes) == (
                end["sum_sent"]["bytes"],
                end["sum_received"]["bytes"],
            )
            assert ours.sent_Mbps == pytest.approx(end["sum_sent"]["bits_per_second"] / 1e6)
        else:
            assert ours.packets == end["sum_sent"]["packets"]
            assert ours.lost_packets == end["sum_received"]["lost_packets"]
            assert ours.jitter_ms == end["sum_received"]["jitter_ms"]
            assert ours.lost_percent == pytest.approx(100 * ours.lost_packets / ours.packets)


@pytest.mark.parametrize("pair", WITH_OURS)
@pytest.mark.parametrize("mode", MODES)
def test_a_stricter_parser_reads_a_document_of_iperfpy(
    runs: dict[tuple[str, str], Run], mode: str, pair: str
) -> None:
    """The parser needs to know, for every figure, which end observed it."""
    library = pytest.importorskip("iperf3_lib.result", reason="iperf3-lib needs Python 3.12")
    reference, run = require_run(runs, mode, "iperf3 and iperf3"), require_run(runs, mode, pair)
    for role in sorted(run.ours):
        document = getattr(run, role)
        theirs, ours = (library.result_from_iperf_json(one) for one in (getattr(reference, role), document))
        assert ours.ok
        assert (ours.protocol, ours.bidirectional) == (theirs.protocol, theirs.bidirectional)
        assert ours.reporting_role == theirs.reporting_role == role
        assert [flow.direction for flow in ours.flows] == [flow.direction for flow in theirs.flows]
        for flow, suffix in zip(ours.flows, ("", "_bidir_reverse"), strict=False):
            assert flow.sender.bytes == document["end"]["sum_sent" + suffix]["bytes"]
            assert flow.receiver.bytes == document["end"]["sum_received" + suffix]["bytes"]


# ---------------------------------------------------------------------- a test that fails


def failing_iperfpy(folder: Path, *flags: str) -> Json:
    done = finished(OURS, [*flags, "-J"], folder)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    document = json.loads(done.stdout)
    assert sentence == f"iperfpy: error - {document['error']}"
    VALIDATOR.validate(document)
    return dict(document)


def failing_iperf3(iperf3: str, folder: Path, *flags: str) -> Json:
    """Its exit status is 0 in 3.12 and 1 in 3.21."""
    document = json.loads(finished((iperf3,), [*flags, "-J"], folder).stdout)
    VALIDATOR.validate(document)
    return dict(document)


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_a_missing_server_gives_a_document_like_iperf3s(iperf3: str, host: str, tmp_path: Path) -> None:
    flags = ("-c", host, "-p", str(free_port()))
    ours, theirs = failing_iperfpy(tmp_path, *flags), failing_iperf3(iperf3, tmp_path, *flags)
    assert list(differences(theirs, ours)) == []
    assert Parsed(json.dumps(ours)).error == ours["error"]


def test_a_busy_server_gives_a_document_like_iperf3s(iperf3: str, tmp_path: Path) -> None:
    with iperf3_serving(iperf3, tmp_path) as port:
        flags = ("-c", "127.0.0.1", "-p", str(port))
        command = [iperf3, *flags, "-t", "20", "-b", "1M", "--forceflush"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
            assert first.stdout is not None
            assert "Connecting" in first.stdout.readline()
            ours, theirs = failing_iperfpy(tmp_path, *flags), failing_iperf3(iperf3, tmp_path, *flags)
            first.terminate()
    assert list(differences(theirs, ours)) == []
    assert "busy" in ours["error"]


def test_json_lines_are_printed_during_the_test_and_follow_the_schema(iperf3_server: int) -> None:
    lines = Draft202012Validator({"$ref": "urn:iperfpy:report#/$defs/event", "$defs": {"whole": SCHEMA}})
    words = ["-c", "127.0.0.1", "-p", str(iperf3_server), "-t", "20", "-i", "0.2", "--json-stream"]
    with WarmProgram(words, stdout=PIPE, stderr=DEVNULL) as client:
        assert client.stdout is not None
        # A test of 20 s: three lines can be read now only if they are flushed at once.
        events = [json.loads(client.stdout.readline()) for _ in range(3)]
        assert client.poll() is None, "the test is still running: these lines were not held back"
        client.terminate()
        rest = client.stdout.read()
    events += [json.loads(line) for line in rest.splitlines()]
    assert client.returncode == 0
    for event in events:
        lines.validate(event)
    names = [event["event"] for event in events]
    assert names[:3] == ["start", "interval", "interval"]
    assert names[-2:] == ["error", "end"]
