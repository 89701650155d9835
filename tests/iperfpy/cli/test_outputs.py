"""The reports of a test, and the consequences of a failing report."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from iperfpy.cli.outputs import Outputs
from iperfpy.options import ClientOptions, OutputOptions
from tests.iperfpy.report.scenes import forward, server


def test_concurrent_tests_of_a_server_have_titles(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = Outputs(OutputOptions())
    (first,), (second,) = outputs.server_sinks(), outputs.server_sinks()
    second.start(server().start)
    first.start(server().start)
    first.close()
    second.close()
    (third,) = outputs.server_sinks()
    third.start(server().start)
    starts = [line for line in capsys.readouterr().out.splitlines() if "Accepted" in line]
    assert [line.startswith("test 2:  ") for line in starts] == [True, False, False]


def test_every_test_of_a_server_has_its_own_csv(tmp_path: Path) -> None:
    outputs = Outputs(OutputOptions(json_stream=True, csv=str(tmp_path / "x.csv")))
    for _ in range(2):
        for sink in outputs.server_sinks():
            sink.start(server().start)
            sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-2.csv", "x.csv"]
    assert not outputs.failed


def test_a_closed_pipe_stops_a_client_and_not_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []
    monkeypatch.setattr("iperfpy.cli.outputs.silence_stdout", lambda: None)
    for stop in (None, lambda: stopped.append("client")):
        outputs = Outputs(OutputOptions(), stop)
        outputs.stdout_failed(BrokenPipeError(errno.EPIPE, "Broken pipe"))
        assert outputs.failed
    assert stopped == ["client"]


@pytest.mark.parametrize(
    ("output", "lines"), [(OutputOptions(json=True), 1), (OutputOptions(json_stream=True), 3)]
)
def test_json_is_the_only_output(
    output: OutputOptions, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = forward()
    with Outputs(output).client_sinks(scene.start.plan, ClientOptions("h")) as (sink,):
        sink.start(scene.start)
        sink.interval(scene.intervals[0])
        sink.end(scene.end)
    out = capsys.readouterr().out
    assert out.startswith("{")
    assert (out.count("\n") == lines) is output.json_stream
