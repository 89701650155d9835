"""Records of five small tests, for reports: a transport with many columns, and every kind of row.

`python -m tests.iperfpy.report.scenes` writes the golden tables again.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from iperfpy.options import IPERF3_TEXT
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import Channel, ClientPort, ServerPort, Stream, Transport
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit, Value
from iperfpy.protocols.settings import Settings, option
from iperfpy.records import ConnectedStream, Row, RunEnded, RunStarted, Sample, Sink
from iperfpy.report.screen import PlainScreen
from iperfpy.report.terminal import TextSink, Wording
from iperfpy.report.text_forms import TEXT_FORMS

GOLDEN = Path(__file__).parents[2] / "golden" / "report"
NARROW = (80, 100, 120)
"""Widths of a terminal that lose no column of one direction."""
NARROWED = (
    *(("forward", width) for width in (60, *NARROW)),
    ("bidirectional", 80),
    ("bidirectional", 60),
    ("parallel-interrupted", 80),
)
"""The tables that golden files keep for a terminal: scene and width."""
US, PERCENT, BYTES, TEXT = Unit.MICROSECONDS, Unit.PERCENT, Unit.BYTES, Unit.TEXT


def share(key: str, title: str, of: str, priority: int) -> Metric:
    return Metric(
        key, "", PERCENT, Kind.RATIO, title=title, numerator=of, denominator="sent", priority=priority
    )


@dataclass(frozen=True, slots=True)
class SceneSettings(Settings):
    window: int = option(512, help="send window", unit="segments")


class SceneTransport(Transport):
    """A transport with settings and metrics, which opens no channel."""

    name = "scene"
    summary = "for tests of reports"
    prefix = "scene"
    settings = SceneSettings
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("rtt_us", "Smoothed RTT", US, Kind.GAUGE, title="RTT", spread=True, iperf3="rtt", priority=5),
        Metric("retransmits", "Sent again", title="Retrans", iperf3="retransmits", priority=1),
        share("retrans_percent", "Retrans(%)", "retransmits", 4),
        share("lost_percent", "Lost(%)", "lost", 3),
        share("early_percent", "Early(%)", "early", 2),
        share("fast_percent", "Fast(%)", "fast", 2),
        Metric("sent", "Segments transmitted"),
        Metric("lost", "Resent by timeout"),
        Metric("early", "Resent early"),
        Metric("fast", "Resent fast"),
        Metric("queue_bytes", "Waiting in the sender", BYTES, Kind.GAUGE),
        Metric("algorithm", "Congestion control", TEXT, Kind.GAUGE),
        Metric("duplicates", "Arrived twice", side=Side.RECEIVER),
    )

    def block_bytes(self, settings: Settings) -> int:
        return 131072

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        raise AssertionError("a report opens no stream")

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        raise AssertionError("a report opens no stream")


@dataclass(frozen=True, slots=True)
class Scene:
    """All records of one test, in the order in which a sink gets them."""

    start: RunStarted
    intervals: tuple[tuple[Row, ...], ...]
    end: RunEnded
    wording: Wording = field(default_factory=Wording)

    def play(self, sink: Sink) -> None:
        sink.start(self.start)
        for rows in self.intervals:
            sink.interval(rows)
        sink.end(self.end)
        sink.close()

    def iperf3_text(self) -> str:
        """The text in iperf3's form, as `text`."""
        out, errors = io.StringIO(), io.StringIO()
        form = TEXT_FORMS[IPERF3_TEXT]
        self.play(form.report(form.screen(out, ""), errors, self.wording))
        return out.getvalue() + (f"--- stderr ---\n{errors.getvalue()}" if errors.getvalue() else "")

    def text(self, width: int | None = None) -> str:
        """The text on a pipe, or on a terminal of this width: standard output, then standard error."""
        out, errors = io.StringIO(), io.StringIO()
        self.play(TextSink(PlainScreen(out, width), errors, self.wording))
        return out.getvalue() + (f"--- stderr ---\n{errors.getvalue()}" if errors.getvalue() else "")


def sender(
    stream: int, start: float, end: float, megabytes: float, lost: int = 0, rtt_us: int = 165_000
) -> Sample:
    """A sender's sample: 1376-byte segments, `lost` of them retransmitted by timeout."""
    # Ratios are None if nothing was sent, as a sampler gives them.
    payload = int(megabytes * 1024 * 1024)
    segments = payload // 1376 + lost
    values: dict[str, Value] = {
        "rtt_us": rtt_us,
        "rtt_us_min": max(0, rtt_us - 1000),
        "rtt_us_mean": rtt_us + 500,
        "rtt_us_max": rtt_us + 2000,
        "retransmits": lost,
        "sent": segments,
        "lost": lost,
        "early": 0,
        "fast": 0,
        "retrans_percent": 100 * lost / segments if segments else None,
        "lost_percent": 100 * lost / segments if segments else None,
        "early_percent": 0.0 if segments else None,
        "fast_percent": 0.0 if segments else None,
        "queue_bytes": 2048,
        "algorithm": "bbr",
    }
    return Sample(stream, Side.SENDER, round(start * 1e6), round(end * 1e6), payload, values)


def receiver(stream: int, start: float, end: float, megabytes: float) -> Sample:
    payload = int(megabytes * 1024 * 1024)
    return Sample(stream, Side.RECEIVER, round(start * 1e6), round(end * 1e6), payload, {"duplicates": 3})


def start_of(
    direction: Direction = Direction.FORWARD, role: Role = Role.CLIENT, streams: int = 1
) -> RunStarted:
    # Stream numbers are iperf3's: 1, then 3, 4, and so on; the client sends on the first half.
    transport = SceneTransport()
    plan = Plan("scene", SceneSettings(), direction, duration_us=2_000_000, parallel=streams)
    count = streams * (2 if direction is Direction.BIDIRECTIONAL else 1)
    sends = [index < streams if direction is Direction.BIDIRECTIONAL else True for index in range(count)]
    connected = tuple(
        ConnectedStream(
            Stream((1, *range(3, 200))[index], index, 7, sends[index]),
            4 + index,
            ("10.0.0.1", 40000 + index),
            ("10.0.0.2", 5201),
        )
        for index in range(count)
    )
    peer = ("10.0.0.2", 5201) if role is Role.CLIENT else ("10.0.0.1", 39999)
    return RunStarted(plan, transport, role, peer, True, "iperfpy-cookie", connected, 1_795_367_700.25, 1448)


CPU = {"host_total": 8.25, "host_user": 3.0, "host_system": 5.25}
BOTH_CPU = {**CPU, "remote_total": 12.0, "remote_user": 4.0, "remote_system": 8.0}


def forward() -> Scene:
    """A lossy interval, an interval in which nothing was sent, and a receiver that got less than was sent."""
    intervals = (
        (Row(1, sender(1, 0, 1.0003, 3.73, lost=11)),),
        (Row(1, sender(1, 1.0003, 2, 0, rtt_us=950)),),
    )
    whole = Row(1, sender(1, 0, 2.0, 3.73, lost=11), receiver(1, 0, 2.01, 3.5))
    return Scene(start_of(), intervals, RunEnded((whole,), BOTH_CPU, extra={"sender_tcp_congestion": "bbr"}))


def reverse_omit() -> Scene:
    """The server sends; the client shows the server's figures once they have arrived."""
    rows = [
        Row(1, replace(receiver(1, 0, 1, 2.0), omitted=True), sender(1, 0, 1, 2.1), Direction.REVERSE),
        Row(1, receiver(1, 0, 1, 2.5), sender(1, 0, 1, 2.5, lost=200), Direction.REVERSE),
        Row(1, receiver(1, 1, 2, 2.5), None, Direction.REVERSE),
    ]
    whole = Row(1, receiver(1, 0, 2, 5.0), sender(1, 0, 2, 5.1, lost=200), Direction.REVERSE)
    start = replace(start_of(Direction.REVERSE), warnings=("the server has no bbr",))
    return Scene(start, tuple((row,) for row in rows), RunEnded((whole,), CPU), Wording(verbose=True))


def parallel_interrupted() -> Scene:
    """Two streams that a signal stopped before the peer's results arrived."""
    first = tuple(
        Row(stream, sender(stream, 0, 1, size, lost)) for stream, size, lost in ((1, 4, 2), (3, 6, 0))
    )
    second = tuple(
        Row(stream, sender(stream, 1, 2, size, lost)) for stream, size, lost in ((1, 5, 1), (3, 5, 3))
    )
    rows = tuple(
        Row(stream, sender(stream, 0, 2, size, lost)) for stream, size, lost in ((1, 9, 3), (3, 11, 3))
    )
    end = RunEnded(rows, CPU, "the client was stopped by SIGINT", warnings=("the window was full",))
    return Scene(start_of(streams=2), (first, second), end, Wording(rate_letter="K", title="night run"))


def bidirectional() -> Scene:
    """Both ends send; a tag on each line names its direction."""

    # Rows are the client's: its own sample comes first in both directions.
    def rows(start: float, end: float) -> tuple[Row, Row]:
        return (
            Row(1, sender(1, start, end, 10 * (end - start)), receiver(1, start, end, 9 * (end - start))),
            Row(
                3,
                receiver(3, start, end, 5 * (end - start)),
                sender(3, start, end, 5, lost=40),
                Direction.REVERSE,
            ),
        )

    return Scene(start_of(Direction.BIDIRECTIONAL), (rows(0, 1), rows(1, 2)), RunEnded(rows(0, 2), CPU))


def server() -> Scene:
    """A server with a stock client: it knows the figures of its own side only."""
    row = Row(1, receiver(1, 0, 1, 3.5))
    return Scene(start_of(role=Role.SERVER), ((row,),), RunEnded((row,), CPU))


SCENES: dict[str, Callable[[], Scene]] = {
    "forward": forward,
    "reverse-omit-verbose": reverse_omit,
    "parallel-interrupted": parallel_interrupted,
    "bidirectional": bidirectional,
    "server": server,
}


def golden() -> Iterator[tuple[Path, str]]:
    """Each golden file and the text that it should have."""
    for name, scene in SCENES.items():
        yield GOLDEN / f"{name}.txt", scene().text()
        yield GOLDEN / f"iperf3-{name}.txt", scene().iperf3_text()
    for name, width in NARROWED:
        yield GOLDEN / f"{name}-{width}-columns.txt", SCENES[name]().text(width)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for path, text in golden():
        path.write_text(text)
