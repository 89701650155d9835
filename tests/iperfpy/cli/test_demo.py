"""The table at the end of the demo, with failed runs and on narrow terminals."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from iperfpy.cli.commands import demo
from iperfpy.cli.commands.demo import Result, comparison, shared_columns
from iperfpy.local_server import LocalServer
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Kind, Metric, Unit
from iperfpy.records import Row
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.scenes import SceneTransport, receiver, sender


class Bare(SceneTransport):
    """A transport that shares two figures with the other one, and has one of its own."""

    name = "bare"
    metrics = (
        Metric("rtt_us", "", Unit.MICROSECONDS, Kind.GAUGE, title="RTT"),
        Metric("cwnd_bytes", "", Unit.BYTES, Kind.GAUGE, title="Cwnd"),
        *(metric for metric in SceneTransport.metrics if metric.key == "retransmits"),
    )


def results() -> list[Result]:
    measured = Result(SceneTransport(), Direction.FORWARD)
    measured.row = Row(1, sender(1, 0, 2, 4, lost=11), receiver(1, 0, 2, 3))
    measured.csv = Path("results/a.csv")
    bare = Result(Bare(), Direction.REVERSE)
    bare.row = Row(1, receiver(1, 0, 2, 6), sender(1, 0, 2, 6), Direction.REVERSE)
    bare.csv = Path("results/b.csv")
    failed = Result(Bare(), Direction.FORWARD)
    failed.take(Run(error="nothing listens there"))
    failed.csv = Path("results/c.csv")
    return [measured, bare, failed]


def lines(width: int | None) -> list[str]:
    return ["".join(text for text, _ in spans).rstrip() for spans in comparison(results(), width)]


def test_the_comparison_has_the_columns_that_two_transports_share() -> None:
    titles = [column.title for column in shared_columns([SceneTransport(), Bare(), Bare()])]
    assert titles == ["Bandwidth(Mbit/s)", "RTT(ms)", "Retrans"]


def test_a_row_has_the_receivers_bandwidth_and_the_senders_figures() -> None:
    assert [line.split() for line in lines(None)] == [
        ["Transport", "Direction", "Bandwidth(Mbit/s)", "RTT(ms)", "Retrans", "CSV"],
        ["scene", "forward", "12.58", "165.5", "11", "results/a.csv"],
        ["bare", "reverse", "25.17", "165.0", "0", "results/b.csv"],
        ["bare", "forward", "-", "-", "-", "results/c.csv"],
        ["bare", "forward:", "nothing", "listens", "there"],
    ]


def test_a_narrow_table_lists_the_files_below() -> None:
    table = lines(60)
    assert max(map(len, table)) <= 60
    assert table[-4:-1] == ["results/a.csv", "results/b.csv", "results/c.csv"]


@pytest.mark.parametrize(("trouble", "status"), [("", 0), ("the path died", 1)])
def test_a_failed_run_is_a_failed_demo(
    trouble: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_all(self: demo.Demo) -> list[Result]:
        measured = results()[0]
        measured.trouble = trouble
        return [measured]

    monkeypatch.setattr(demo.Demo, "run_all", run_all)
    monkeypatch.setattr(demo, "LocalServer", lambda host: nullcontext(LocalServer(host)))
    assert demo.run(1_000_000) == status
    assert ("scene     forward: the path died" in capsys.readouterr().out) is bool(trouble)
