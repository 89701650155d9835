"""The log line of a server's test."""

from __future__ import annotations

from dataclasses import replace

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Unit
from iperfpy.records import Row, RunEnded, Sample
from iperfpy.report.service_log import ServiceLogSink
from tests.iperfpy.report.scenes import Scene, SceneTransport, server


def lines_of(scene: Scene) -> list[str]:
    lines: list[str] = []
    scene.play(ServiceLogSink(lines.append))
    return lines


def test_a_test_is_one_line_with_its_client_and_its_result() -> None:
    assert lines_of(server()) == ["10.0.0.1 port 39999: scene forward, 1.0 s, 29.36 Mbit/s, loss -: measured"]


class Lossy(SceneTransport):
    """A transport that counts datagrams at both ends."""

    metrics = (
        Metric("sent", "Datagrams sent"),
        Metric("got", "Datagrams received", side=Side.RECEIVER),
        Metric(
            *("gone_percent", "", Unit.PERCENT, Kind.MISSING),
            numerator="got",
            denominator="sent",
            meaning=Meaning.PATH_LOSS,
        ),
    )


def test_the_loss_is_that_of_the_path_in_each_direction() -> None:
    start = server().start
    sent = Sample(1, Side.SENDER, 0, 1_000_000, 1000, {"sent": 8})
    got = Sample(1, Side.RECEIVER, 0, 1_000_000, 125_000, {"got": 7})
    rows = (Row(1, got, sent), Row(3, replace(sent, stream=3), None, Direction.REVERSE))
    plan = replace(start.plan, direction=Direction.BIDIRECTIONAL)
    scene = Scene(replace(start, plan=plan, transport=Lossy()), (), RunEnded(rows, {}))
    assert lines_of(scene) == [
        "10.0.0.1 port 39999: scene bidirectional, 1.0 s, forward 1.00 Mbit/s, loss 12.50 %, "
        "reverse 0.008 Mbit/s, loss -: measured"
    ]


def test_a_test_that_ended_early_says_why() -> None:
    scene = server()
    for failed, word in ((True, "failed"), (False, "interrupted")):
        end = replace(scene.end, interrupted="the client has terminated", failed=failed)
        (line,) = lines_of(replace(scene, end=end))
        assert line.endswith(f": {word}: the client has terminated")


def test_a_test_without_figures_has_a_line() -> None:
    (line,) = lines_of(replace(server(), end=RunEnded((), {}, "the client is gone", failed=True)))
    assert line == "10.0.0.1 port 39999: scene forward, 0.0 s: failed: the client is gone"
