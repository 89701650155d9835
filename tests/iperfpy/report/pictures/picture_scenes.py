"""Runs for the tests of pictures: made from the records of `scenes`, and drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import replace

from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.registry import transport
from iperfpy.records import Latency, Row, RunEnded, Sample
from iperfpy.store.run_recorder import RunRecorder
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.scenes import CPU, SCENES, Scene, start_of

EVIL = (
    "<script>alert(1)</script></title><!-- \"'`&amp; \x1b[31mred\x1b[0m"
    " \u202eoverride\u2066isolate\u200f {x} $\\frac"
)
"""Markup, an end of the title, a comment, quotes, terminal escapes, bidirectional controls, a formula."""


def run_of(scene: Scene) -> Run:
    """The run that a scene makes."""
    recorder = RunRecorder()
    scene.play(recorder)
    return recorder.run()


def scene_run(name: str) -> Run:
    """The run of a scene by name."""
    return run_of(SCENES[name]())


def kcp_run(count: int = 60, *, direction: Direction = Direction.FORWARD, seconds: float = 0.5) -> Run:
    """A run of kcp-bbr with every figure that a picture shows, drawn from a fixed seed."""
    chance = random.Random(7)
    kcp = transport("kcp-bbr")
    start = start_of(direction)
    plan = replace(
        start.plan, transport="kcp-bbr", settings=kcp.settings(), duration_us=round(count * seconds * 1e6)
    )
    start = replace(start, plan=plan, transport=kcp, peer=("192.0.2.7", 5201))
    rows = [_row(chance, number, seconds, direction) for number in range(count)]
    whole = _whole(rows)
    finding = Finding(
        direction, Cause.QUEUE, Confidence.LIKELY, "a queue of 383 KiB", "it rises", "a shorter one"
    )
    end = RunEnded((whole,), CPU, latency=Latency(80_000, 80_100, 95_000, 140_000), findings=(finding,))
    return run_of(Scene(start, tuple((row,) for row in rows), end))


def _row(chance: random.Random, number: int, seconds: float, direction: Direction) -> Row:
    sent = chance.randint(800, 1200)
    arrived = sent - chance.choice((0, 0, 0, chance.randint(1, 40)))
    again = sent - arrived
    start, end = round(number * seconds * 1e6), round((number + 1) * seconds * 1e6)
    pacing = chance.randint(0, end - start)
    rtt = 80_000 + chance.randint(0, 30_000)
    own = {
        "rtt_us": rtt,
        "rtt_us_mean": rtt + 300.0,
        "rtt_us_min": rtt - 400,
        "rtt_us_max": rtt + 20_000,
        "retransmits": again,
        "segments_sent": sent,
        "timeouts": 0,
        "early": 0,
        "fast": again,
        "retrans_percent": 100 * again / sent,
        "timeout_percent": 0.0,
        "early_percent": 0.0,
        "fast_percent": 100 * again / sent,
        "snd_cwnd_bytes": 600_000,
        "in_flight_bytes": 400_000,
        "pacing_limited_us": pacing,
        "cwnd_limited_us": end - start - pacing,
        "application_limited_us": 0,
        "datagrams_sent": sent,
    }
    sender = Sample(1, Side.SENDER, start, end, sent * 1376, own)
    receiver = Sample(1, Side.RECEIVER, start, end, arrived * 1376, {"datagrams_received": arrived})
    both = (sender, receiver) if direction is Direction.FORWARD else (receiver, sender)
    return Row(1, *both, direction)


def _whole(rows: list[Row]) -> Row:
    """The sum of the rows, by the counters."""
    first, last = rows[0], rows[-1]

    def total(side: Side, keys: tuple[str, ...]) -> Sample:
        samples = [sample for row in rows if (sample := row.of(side)) is not None]
        values = {key: sum(int(sample.values[key] or 0) for sample in samples) for key in keys}
        return Sample(
            1, side, first.local.start_us, last.local.end_us, sum(one.bytes for one in samples), values
        )

    sender = total(
        Side.SENDER, ("retransmits", "segments_sent", "timeouts", "early", "fast", "datagrams_sent")
    )
    receiver = total(Side.RECEIVER, ("datagrams_received",))
    sent, arrived = int(sender.values["datagrams_sent"] or 0), int(receiver.values["datagrams_received"] or 0)
    sender = replace(sender, values={**sender.values, "path_loss_percent": 100 * (1 - arrived / sent)})
    both = (sender, receiver) if first.local.side is Side.SENDER else (receiver, sender)
    return Row(1, *both, first.direction)
