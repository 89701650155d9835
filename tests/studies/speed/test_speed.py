"""Arithmetic and records of the benchmark; no test here asserts a speed."""

from __future__ import annotations

import csv
import json
import socket
from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iperfpy import Interval, Plan, Run, RunEnded, RunStarted, Sample, Side, transports
from iperfpy import Row as RunRow
from iperfpy.plan import Role
from tests.studies.speed import programs, watch, ways
from tests.studies.speed.__main__ import main
from tests.studies.speed.cases import Group, chosen
from tests.studies.speed.contestants import Figures, Received, parse
from tests.studies.speed.processes import Program, RunError, free_port, started, wait_listening
from tests.studies.speed.programs import GO_SETTINGS, GoLibrary, KcpGo, jain, of_iperf3_json, of_run
from tests.studies.speed.rows import remarks
from tests.studies.speed.run import Measured, measure
from tests.studies.speed.summary import Row, Verdict, result
from tests.studies.speed.watch import BIN_S, BINS, SMOOTH_BPS, Bins, no_capture, worst_bin_percent
from tests.studies.speed.ways import MIB

MORE = Row("x/more", "more is better", "bits_per_s", "a", "b", 2.0, 4.0)
LESS = Row("x/less", "less is better", "cpu_s_per_gb", "a", "b", 0.5, 0.25, less_is_better=True)
ALONE = Row("x/alone", "no peer", "wall_ms", "a", None, 150.0, 80.0, less_is_better=True)


def rounds(figure: str, a: list[float], b: list[float]) -> dict[str, list[Figures | None]]:
    return {"a": [{figure: value} for value in a], "b": [{figure: value} for value in b]}


def test_a_ratio_is_of_medians_and_its_spread_of_single_rounds() -> None:
    found = result(MORE, rounds("bits_per_s", [10, 30, 20], [10, 10, 5]))
    assert found.judged == 2.0
    assert found.ratio_spread == (1.0, 4.0)
    assert found.ours is not None
    assert (found.ours.low, found.ours.median, found.ours.high) == (10, 20, 30)
    assert found.verdict is Verdict.LIMIT
    assert found.score == 1.0


@pytest.mark.parametrize(
    ("row", "ours", "verdict", "score"),
    [
        (MORE, 4.0, Verdict.AIM, 2.0),
        (MORE, 1.9, Verdict.BELOW, 0.95),
        (LESS, 0.25, Verdict.AIM, 2.0),
        (LESS, 0.5, Verdict.LIMIT, 1.0),
        (LESS, 1.0, Verdict.BELOW, 0.5),
    ],
)
def test_a_verdict_depends_on_the_direction_that_is_better(
    row: Row, ours: float, verdict: Verdict, score: float
) -> None:
    found = result(row, rounds(row.figure, [ours], [1.0]))
    assert found.verdict is verdict
    assert found.score == pytest.approx(score)


def test_a_row_without_a_peer_is_judged_by_its_own_figure() -> None:
    found = result(ALONE, rounds("wall_ms", [100.0, 70.0, 75.0], []))
    assert (found.judged, found.verdict) == (75.0, Verdict.AIM)


def test_a_missing_figure_gives_no_number() -> None:
    failed: dict[str, list[Figures | None]] = {
        "a": [None, {"bits_per_s": 8.0}],
        "b": [{"bits_per_s": 2.0}, None],
    }
    found = result(MORE, failed)
    assert found.judged == 4.0
    assert found.ratio_spread is None  # no round in which both ran
    assert result(MORE, {"a": failed["a"]}).verdict is Verdict.ABSENT
    assert result(MORE, {}).ours is None


def test_a_row_is_judged_against_the_best_of_several_medians() -> None:
    row = Row("x/kept", "keeps its rate", "bits_per_s", "few", limit=0.8, best_of=("few", "some", "many"))
    runs: dict[str, list[Figures | None]] = {
        "few": [{"bits_per_s": rate} for rate in (6.0, 7.0, 50.0)],
        "some": [{"bits_per_s": 10.0}, None, {"bits_per_s": 10.0}],
        "many": [None, None, None],
    }
    found = result(row, runs)
    assert (found.row.theirs, found.judged, found.verdict) == ("some", 0.7, Verdict.BELOW)
    assert result(replace(row, ours="some"), runs).judged == 1.0
    assert result(replace(row, less_is_better=True), runs).row.theirs == "few"
    assert result(row, {}).verdict is Verdict.ABSENT


def test_shares_of_streams_make_an_index_of_fairness() -> None:
    assert jain([5, 5, 5, 5]) == 1.0
    assert jain([8, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 0.0


class Scripted:
    """A contestant with prescribed figures."""

    def __init__(self, name: str, script: list[float | str], reason: str = "") -> None:
        self.name, self.script, self.reason, self.order = name, script, reason, [""]

    def missing(self) -> str:
        return self.reason

    def prepare(self, seconds: float, figures: Set[str]) -> str:
        return f"prepared for {seconds:.0f} s of {' '.join(figures)}"

    def measure(self, seconds: float) -> Figures:
        self.order.append(self.name)
        answer = self.script.pop(0)
        if isinstance(answer, str):
            raise RunError(answer)
        return {"bits_per_s": answer}


def test_contestants_take_turns_and_a_failure_costs_one_run() -> None:
    a, b = Scripted("a", [4.0, "fell over", 4.0]), Scripted("b", [1.0, 1.0, 1.0])
    b.order = a.order
    done = measure(Group("turns", (a, b), (MORE,), at_least_s=7.0), 3, 1.0, lambda text: None)
    assert a.order[1:] == ["a", "b"] * 3
    assert done.failures == ["a: fell over"]
    assert done.remarks["a"] == "prepared for 7 s of bits_per_s"
    assert [found.judged for found in done.results()] == [4.0]


def test_a_group_may_take_fewer_rounds() -> None:
    a, b = Scripted("a", [4.0, 4.0]), Scripted("b", [1.0, 1.0])
    done = measure(Group("few", (a, b), (MORE,), most_rounds=2), 5, 1.0, lambda text: None)
    assert {name: len(runs) for name, runs in done.rounds.items()} == {"a": 2, "b": 2}
    assert done.failures == []


class Stalling(KcpGo):
    """A replacement of kcp-go with prescribed output."""

    def __init__(self, script: list[float | str]) -> None:
        super().__init__("kcp-go")
        self._chosen: Any = Scripted("kcp-go", script)


def test_runs_that_stalled_are_repeated_and_counted() -> None:
    stall = "kcpgo ended with status 1: kcpgo: stalled: nothing could be written for 3s"
    a = Stalling([8.0, stall, stall, 8.0])
    runs = [a.measure(1.0), a.measure(1.0)]
    assert runs == [
        {"bits_per_s": 8.0, "stalled_runs": 0},
        {"bits_per_s": 8.0, "stalled_runs": 2},
    ]
    done = Measured(Group("one", (), (MORE,)), rounds={"kcp-go": [*runs, None]})
    assert remarks([done]) == ["kcp-go: 2 runs stalled and were repeated"]
    with pytest.raises(RunError, match="5 times in a row"):
        Stalling([stall] * 5).measure(1.0)


def test_the_fastest_setting_and_the_version_of_another_kcp_go_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "kcpgo_library", lambda: GoLibrary("v5.6.72", (), oob=True))
    one = KcpGo("kcp-go")
    rates = Scripted("kcp-go", [1e6, 1e6, 2e6, 3e6, *[2e6] * 6])
    monkeypatch.setattr(one, "_pair", lambda setting: rates)
    remark = one.prepare(1.0, {"bits_per_s"})
    assert remark.startswith("v5.6.72, window 1024, flush 10 ms (tried 512/10 ms 1 Mb/s, 1024/10 ms 3 Mb/s,")
    assert one.setting == GO_SETTINGS[1]
    with pytest.raises(RunError, match="fell over"):
        Stalling(["fell over"]).measure(1.0)


def test_the_worst_bin_of_a_second_is_found() -> None:
    exact = int(SMOOTH_BPS / 8 * BIN_S)
    even = [(0.0, 0), *((place * BIN_S + BIN_S / 2, exact) for place in range(2 * BINS + 1))]
    assert worst_bin_percent(even, 1.0) == pytest.approx(0, abs=1e-6)
    late = [(when + 0.01 if place == 150 else when, size) for place, (when, size) in enumerate(even)]
    assert worst_bin_percent(late, 1.0) == pytest.approx(100)
    for few in ([], even[:100]):
        with pytest.raises(RunError, match="too little"):
            worst_bin_percent(few, 1.0)


@pytest.mark.skipif(no_capture() != "", reason="needs root")
def test_datagrams_to_a_port_are_captured_with_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BINS", 30)
    monkeypatch.setattr(Bins, "SETTLE_S", 0.2)
    port = free_port()
    script = (
        "import socket, sys, time; s = socket.socket(type=socket.SOCK_DGRAM)\n"
        "s.connect(('127.0.0.1', int(sys.argv[2])))\n"
        "while True: s.send(bytes(1000)); time.sleep(0.002)"
    )
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sink,
        started(["python3", "-c", script, "-p", str(port)]) as client,
    ):
        sink.bind(("127.0.0.1", port))
        sink.settimeout(20)
        sink.recv(2000)
        # 1000 bytes every 2 ms are 4 Mb/s, and the study expects 50.
        bins = Bins(4.0)
        bins(client, client)
    assert {size for _, size in bins._arrivals} == {1000}
    assert bins.figures()["worst_bin_percent"] > 50  # 4 Mb/s are not 50


def test_a_missing_peer_is_reported_and_the_others_are_measured() -> None:
    a, b = Scripted("a", [4.0]), Scripted("b", [], "b is missing: apt-get install b")
    done = measure(Group("one", (a, b), (MORE,)), 1, 1.0, lambda text: None)
    assert done.missing == ["b is missing: apt-get install b"]
    found = done.results()[0]
    assert found.verdict is Verdict.ABSENT
    assert found.ours is not None


def test_chosen_rows_keep_only_their_contestants() -> None:
    (group,) = chosen(("kcp/ceiling",))
    assert [row.key for row in group.rows] == ["kcp/ceiling"]
    assert {one.name for one in group.contestants} == {"kcp", "bare datagrams"}
    assert chosen(("no-such-row",)) == []
    keys = [row.key for group in chosen() for row in group.rows]
    assert len(keys) == len(set(keys))


def test_a_row_against_the_best_keeps_all_of_which_one_may_be_it() -> None:
    (group,) = chosen(("streams/kcp-16",))
    assert [one.name for one in group.contestants] == [f"kcp -P {count}" for count in (1, 4, 16, 64, 128)]


def test_every_row_names_contestants_of_its_group() -> None:
    for group in chosen():
        names = [one.name for one in group.contestants]
        assert len(names) == len(set(names))
        for row in group.rows:
            assert row.contestants <= set(names)


def test_an_iperf3_report_gives_the_receivers_count_and_the_worst_second() -> None:
    text = json.dumps(
        {
            "start": {"test_start": {"target_bitrate": 1000}},
            "intervals": [
                {"sum": {"bits_per_second": 1010.0, "seconds": 1.0}},
                {"sum": {"bits_per_second": 980.0, "seconds": 1.0}},
                {"sum": {"bits_per_second": 10.0, "seconds": 0.1}},
            ],
            "end": {"sum_received": {"bytes": 250, "seconds": 2.0}},
        }
    )
    # The last interval is a tenth of a second, so it is not the worst one.
    counted = of_iperf3_json(text, "x")
    assert (counted.bytes, counted.seconds) == (250, 2.0)
    assert counted.figures == {"rate_error_percent": pytest.approx(2.0)}


def test_a_report_of_iperfpy_gives_the_receivers_count_and_the_worst_second() -> None:
    transport = transports()["tcp"]
    plan = Plan("tcp", transport.settings(), rate_bps=1000)
    started = RunStarted(plan, transport, Role.CLIENT, ("127.0.0.1", 5201), True, "cookie", (), 0.0)
    sent = [Sample(1, Side.SENDER, at * 10**6, (at + 1) * 10**6, size) for at, size in enumerate((130, 120))]
    last = Sample(1, Side.SENDER, 2_000_000, 2_100_000, 90)  # not a whole second
    ended = RunEnded((RunRow(1, last, Sample(1, Side.RECEIVER, 0, 2_000_000, 250)),), {})
    intervals = tuple(Interval.of((RunRow(1, one),), transport) for one in (*sent, last))
    counted = of_run(json.dumps(Run(started, intervals, ended).document()), "x")
    assert (counted.bytes, counted.seconds) == (250, 2.0)
    assert counted.figures == {"rate_error_percent": pytest.approx(4.0)}
    stopped = Run(started, intervals, replace(ended, interrupted="stopped"), "stopped")
    with pytest.raises(RunError, match="x: stopped"):
        of_run(json.dumps(stopped.document()), "x")


@pytest.mark.parametrize("text", ["", "[]", '{"end": {}, "error": "refused"}', "no JSON"])
@pytest.mark.parametrize("read", [of_run, of_iperf3_json])
def test_a_report_without_figures_is_a_failed_run(read: Callable[[str, str], Received], text: str) -> None:
    with pytest.raises(RunError):
        read(text, "x")
    with pytest.raises(RunError):
        parse("[1]", "x")


def test_the_processor_time_and_memory_of_a_process_are_measured() -> None:
    with started(["python3", "-c", "x = b'x' * 80_000_000; print('said')"]) as program:
        ended = program.wait(20)
    assert ended.output == "said\n"
    assert ended.peak_bytes > 80_000_000
    assert ended.cpu_s > 0


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("import sys; sys.exit('broken pipe of ours')", "status 1: broken pipe of ours"),
        ("import time; time.sleep(60)", "did not end"),
    ],
)
def test_a_failed_program_is_an_error_of_one_sentence(script: str, sentence: str) -> None:
    with started(["python3", "-c", script]) as program, pytest.raises(RunError, match=sentence):
        program.wait(0.3 if "sleep" in script else 20.0)
    assert not program.running()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_server_is_awaited_without_connecting_to_it(protocol: str) -> None:
    port, kind = free_port(), {"tcp": "SOCK_STREAM", "udp": "SOCK_DGRAM"}[protocol]
    script = (
        f"import socket, time; s = socket.socket(type=socket.{kind}); s.bind(('127.0.0.1', {port})); "
        + ("s.listen(); " if protocol == "tcp" else "")
        + "time.sleep(60)"
    )
    with started(["python3", "-c", script]) as program:
        wait_listening(program, protocol, port)
        assert program.running()
    with started(["python3", "-c", "pass"]) as program, pytest.raises(RunError, match="before it opened"):
        wait_listening(program, protocol, free_port())


def test_a_short_benchmark_leaves_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "version", "--rounds", "1", "--out", str(tmp_path)]) == 0
    (record,) = tmp_path.glob("bench-*.json")
    answer = json.loads(record.read_text())
    assert answer["rounds"] == 1
    assert answer["surroundings"]["kernel"]
    assert answer["groups"][0]["runs"]["iperfpy --version"][0]["wall_ms"] > 0
    with record.with_suffix(".csv").open() as file:
        (line,) = csv.DictReader(file)
    assert line["key"] == "version"
    assert float(line["ours_median"]) > 0
    assert line["theirs_median"] == ""
    assert "iperfpy --version" in capsys.readouterr().out
    page = record.with_suffix(".md").read_text()
    assert "    python -m tests.studies.speed --only version --rounds 1 --seconds 2\n" in page
    assert "| ≤ 150 ms | ≤ 80 ms |" in page
    # A record is published: it must not name folders of this machine.
    for kept in tmp_path.glob("bench-*.*"):
        assert str(tmp_path).encode() not in kept.read_bytes()


def test_the_judged_rows_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from tests.studies.speed import bars

    judged = result(LESS, rounds("cpu_s_per_gb", [1.0], [3.0]))
    assert bars.aim_of(judged) == 2.0
    assert bars.label(judged) == "0.333 (≤ 0.5)   1 s/GB : 3 s/GB"
    assert bars.draw(tmp_path / "x.png", [judged, result(MORE, {})], "title")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert not bars.draw(tmp_path / "y.png", [result(MORE, {})], "nothing was measured")


def test_an_unknown_row_is_an_error_of_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no-such-row"]) == 1
    assert "no-such-row" in capsys.readouterr().err


def test_the_processor_time_is_known_while_a_program_runs() -> None:
    program = Program(["python3", "-c", "while True: pass"])
    try:
        wait_for_cpu(program)
    finally:
        program.end()


def wait_for_cpu(program: Program) -> None:
    for _ in range(200):
        if program.cpu_s() > 0:
            return
        with pytest.raises(RunError):
            program.wait(0.05)
    raise AssertionError("a busy program took no time")


@pytest.mark.parametrize("way", [*ways.WAYS[-6:], *ways.WAYS[7:12]], ids=lambda way: way.name)
def test_every_way_of_sending_is_measured(way: ways.Way) -> None:
    cost = ways.run(way, 0.0001)
    assert cost.bits_per_s > 0
    assert cost.sends_per_mib > 0
    assert cost.receives_per_mib >= MIB / way.receive_bytes * 0.99
    assert ways.line(way, [cost]).count("|") == 8
