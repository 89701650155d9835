"""`iperfpy latency`: its words, its reports, and the exit status of each end."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from iperfpy.cli.main import main
from iperfpy.errors import ConnectError, PathError
from iperfpy.experiments import latency_run
from iperfpy.experiments.message_probe import MessageResult, MessageTest
from iperfpy.options import ClientOptions
from iperfpy.records import UNANSWERED, MessageTimes
from iperfpy.report.latency_text import lines
from iperfpy.store.folder import Folder

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "latency_schema.json").read_text())
BASE_US = {"tcp": 40_000, "udp": 30_000, "kcp": 20_000, "kcp-bbr": 10_000}

Measure = Callable[[ClientOptions, MessageTest], Any]


def times(test: MessageTest) -> MessageTimes:
    """Round trips from the transport's base on, a load adds as much again; UDP loses every tenth."""
    count = round(test.per_s * test.seconds)
    trips = BASE_US[test.transport] * (2 if test.load else 1) + np.arange(count, dtype=np.uint32)
    if test.transport == "udp":
        trips[::10] = UNANSWERED
    there = np.where(trips == UNANSWERED, 0, trips.astype(np.int64) // 2)
    held = np.zeros(count, np.uint32)
    sent = (test.size_bytes, 1e6 / test.per_s, count, trips.astype(np.uint32), 0, (200 * count, 0))
    return MessageTimes(*sent, there_us=there, held_us=held)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[MessageTest]:
    """The tests that were run; each ends at once, with times made by hand."""
    made: list[MessageTest] = []

    async def measured(options: ClientOptions, test: MessageTest) -> MessageResult:
        made.append(test)
        load = {"down" if test.load.reverse else "up": 20e6} if test.load is not None else {}
        return MessageResult(test, times(test), load)

    monkeypatch.setattr(latency_run, "measure_messages", measured)
    monkeypatch.setattr(latency_run, "REST_S", 0.0)
    return made


def table(text: str, heading: str) -> list[list[str]]:
    """The cells below a heading, up to the next empty line."""
    found = text.split(heading, 1)[1].split("\n\n", 1)[0].splitlines()
    return [line.split() for line in found if line.strip()]


def test_every_transport_is_measured_idle_and_beside_its_own_bulk_data_in_both_directions(
    asked: list[MessageTest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["latency", "192.0.2.7", "--proto", "tcp,udp,kcp,kcp-bbr", "--no-save"]) == 0
    output = capsys.readouterr()
    assert len(asked) == 12
    ways = [(one.load.transport, one.load.reverse) for one in asked if one.load is not None]
    assert ways == [(name, down) for down in (False, True) for name in BASE_US]
    idle = table(output.out, "idle path")
    assert [row[0] for row in idle[2:]] == ["kcp-bbr", "kcp", "udp", "tcp"]  # by P99, or P90 of all
    assert "beside own bulk data, up" in output.out
    assert "beside own bulk data, down" in output.out
    assert "tcp: beside tcp down 20.0 Mbit/s" in output.out
    assert "12 tests of 11 s" in output.err


def test_transports_may_be_given_one_by_one(asked: list[MessageTest]) -> None:
    words = ["--proto", "kcp,tcp", "--proto", "udp", "--load", "none", "--no-save"]
    assert main(["latency", "192.0.2.7", *words]) == 0
    assert {one.transport for one in asked} == {"kcp", "tcp", "udp"}


def test_transports_beside_the_same_named_load_are_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Also the transport of that name."""
    words = ["latency", "192.0.2.7", "--proto", "tcp,kcp", "--load", "kcp", "--load-direction", "up"]
    assert main([*words, "--no-save"]) == 0
    output = capsys.readouterr().out
    assert [row[0] for row in table(output, "beside kcp, up")[2:4]] == ["kcp", "tcp"]
    assert "own bulk data" not in output


def test_the_table_keeps_within_80_columns() -> None:
    report = _report(["tcp", "kcp-bbr"])
    for line in lines(report, 80):
        assert len("".join(text for text, _ in line)) <= 80
    assert any("held" in text for line in lines(report, 80) for text, _ in line)


def _report(names: Sequence[str]) -> Any:
    steps = latency_run.steps_of(
        latency_run.messengers(names), sizes=[100], rates=[100], loads=["none"], directions=["up"]
    )
    run = latency_run.LatencyRun(ClientOptions("192.0.2.7"), steps)
    asyncio.run(run.run())
    return run.report()


def test_messages_that_waited_before_they_left_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def late(options: ClientOptions, test: MessageTest) -> MessageResult:
        made = times(test)
        made.held_us[:] = 40_000 if test.transport == "kcp" else 40
        return MessageResult(test, made)

    monkeypatch.setattr(latency_run, "measure_messages", late)
    assert main(["latency", "192.0.2.7", "--proto", "tcp,kcp", "--load", "none", "--no-save"]) == 0
    assert "kcp: the column held is large" in capsys.readouterr().out


def test_the_warnings_of_a_test_are_shown_and_stored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def warned(options: ClientOptions, test: MessageTest) -> MessageResult:
        return MessageResult(test, times(test), warnings=("a small buffer",))

    monkeypatch.setattr(latency_run, "measure_messages", warned)
    words = [
        "latency",
        "192.0.2.7",
        "--proto",
        "tcp,kcp",
        "--load",
        "none",
        "--rounds",
        "2",
        "--no-save",
        "-J",
    ]
    assert main(words) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["warnings"] == ["tcp: a small buffer", "kcp: a small buffer"]
    assert "warning - kcp: a small buffer" in output.err


def test_percentiles_wait_for_enough_messages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", "192.0.2.7", "--proto", "tcp", "--load", "none", "-t", "5", "--no-save"]) == 0
    assert "P99 needs 1,000 answered messages" in capsys.readouterr().out
    words = ["latency", "192.0.2.7", "--proto", "tcp", "--load", "none", "-t", "5", "--rounds", "2"]
    assert main([*words, "--no-save"]) == 0
    assert "P99.9 needs 10,000 answered messages" in capsys.readouterr().out


def test_the_document_keeps_every_sample_and_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latency", "192.0.2.7", "--proto", "udp,kcp:fast", "--load", "none,tcp:cubic", "-R", "-J"]
    assert main([*words, "--no-save", "--size", "100,1000", "--rate", "50", "-t", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(found)
    assert len(found["rows"]) == 8
    udp = next(row for row in found["rows"] if row["name"] == "udp" and row["load"]["name"] == "none")
    trips = udp["rounds"][0]["round_trip_us"]
    assert len(trips) == 100
    assert trips[0] is None
    assert trips[1] == 30_001
    assert udp["figures"]["lost"] == 10
    assert udp["cdf"]["share_beyond"][-1] == pytest.approx(0.1)  # the lost ones lie beyond every time
    loaded = next(row for row in found["rows"] if row["name"] == "kcp fast" and row["load"]["direction"])
    assert loaded["load"]["name"] == "tcp cubic"
    assert loaded["settings"] == {"mode": "fast"}


def test_the_csv_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", "192.0.2.7", "--proto", "tcp,kcp", "--bidir", "--csv", "-", "--no-save"]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["name"], row["load"], row["load_direction"]) for row in found] == [
        *(("kcp", "none", ""), ("tcp", "none", "")),
        *(("kcp", "kcp", "both"), ("tcp", "tcp", "both")),
    ]
    assert float(found[0]["p50_us"]) == pytest.approx(20_549.5)


def test_the_result_is_kept_and_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latency", "192.0.2.7", "--proto", "tcp", "--load", "none", "--results", str(tmp_path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    (entry,) = Folder(tmp_path).entries().entries
    assert entry.about.kind == "latency"
    assert entry.about.summary.startswith("tcp P99 ")
    assert main(["show", "last", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "latency needs the server's name or address"),
        (["h", "--size", "15"], "--size must be between 16 and 65507 bytes, not 15\n"),
        (["h", "--rate", "0"], "--rate must be"),
        (["h", "--load-direction", "left"], "one of up, down, both, not 'left'"),
        (["h", "-R", "--bidir"], "exclude one another"),
        (["h", "--load", "carrier-pigeon"], "carrier-pigeon"),
        (["h", "--proto", "kcp:fast4"], "fast4"),
        (["h", "--rate", "10000", "-t", "1000"], "at most 2,000,000 messages"),
        (["h", "--csv", "-", "-J"], "exclude each other"),
    ],
)
def test_words_that_mean_nothing_are_refused(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], asked: list[MessageTest]
) -> None:
    assert main(["latency", *words]) == 1
    assert sentence in capsys.readouterr().err
    assert not asked


def test_a_server_that_is_not_there_ends_the_run_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refused(options: ClientOptions, test: MessageTest) -> MessageResult:
        raise ConnectError("cannot connect to 192.0.2.7 port 5201: refused")

    monkeypatch.setattr(latency_run, "measure_messages", refused)
    assert main(["latency", "192.0.2.7", "--proto", "tcp,kcp", "-J", "--no-save"]) == 1
    output = capsys.readouterr()
    found = json.loads(output.out)
    Draft202012Validator(SCHEMA).validate(found)
    assert found["error"].startswith("cannot connect")
    assert "cannot connect" in output.err


def test_a_transport_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def blocked(options: ClientOptions, test: MessageTest) -> MessageResult:
        if test.transport == "kcp":
            raise PathError("stream 1: the server did not answer")
        return MessageResult(test, times(test))

    monkeypatch.setattr(latency_run, "measure_messages", blocked)
    words = ["latency", "192.0.2.7", "--proto", "tcp,kcp,udp", "--load", "none", "--no-save"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "kcp: stream 1: the server did not answer" in out
    assert len(table(out, "idle path")) >= 5


def test_the_busy_server_of_a_later_test_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    async def busy_once(options: ClientOptions, test: MessageTest) -> MessageResult:
        calls.append(test)
        if len(calls) == 2:
            raise ConnectError("this server is busy")
        return MessageResult(test, times(test))

    monkeypatch.setattr(latency_run, "measure_messages", busy_once)
    monkeypatch.setattr(latency_run, "AGAIN_S", 0.0)
    assert main(["latency", "192.0.2.7", "--proto", "tcp,kcp", "--load", "none", "--no-save"]) == 0
    assert [one.transport for one in calls] == ["tcp", "kcp", "kcp"]
    assert "busy" not in capsys.readouterr().out


def test_rounds_turn_the_order_around(asked: list[MessageTest]) -> None:
    words = ["latency", "192.0.2.7", "--proto", "tcp,kcp", "--load", "none", "--rounds", "3", "--no-save"]
    assert main(words) == 0
    assert [one.transport for one in asked] == ["tcp", "kcp", "kcp", "tcp", "tcp", "kcp"]


def test_by_default_a_path_that_loses_some_messages_has_a_p99(asked: list[MessageTest]) -> None:
    assert main(["latency", "192.0.2.7", "--proto", "udp", "--load", "none", "--no-save"]) == 0
    (test,) = asked
    # 5 % of the messages, or of their echoes, are lost.
    assert 0.95 * test.per_s * test.seconds >= 1000
