"""Comparisons made by hand, and their golden texts:

python -m tests.iperfpy.report.compare_scenes     writes the golden files again
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from iperfpy.comparison.comparison_report import (
    ComparisonReport,
    ContenderFacts,
    LeftOut,
    MeasuredMessages,
    MeasuredTest,
)
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.experiments.check_schedule import DIRECTIONS
from iperfpy.plan import Direction
from iperfpy.report.compare_text import lines
from iperfpy.report.screen import PlainScreen

FOLDER = Path(__file__).parents[2] / "golden" / "report"
UP, DOWN = Direction.FORWARD, Direction.REVERSE
TCP_BBR = ContenderFacts("tcp bbr", "tcp", {"congestion": "bbr"})
CUBIC = ContenderFacts("tcp cubic", "tcp", {"congestion": "cubic"})
KCP, KCP_BBR = ContenderFacts("kcp", "kcp"), ContenderFacts("kcp-bbr", "kcp-bbr")
UDP = ContenderFacts("udp", "udp", ranked=False)
MEANS = {
    (TCP_BBR.name, UP): 22.6e6,
    (CUBIC.name, UP): 21.0e6,
    (KCP.name, UP): 14.1e6,
    (KCP_BBR.name, UP): 22.5e6,
    (UDP.name, UP): 20.3e6,
    (TCP_BBR.name, DOWN): 12.2e6,
    (CUBIC.name, DOWN): 9.6e6,
    (KCP.name, DOWN): 8.2e6,
    (KCP_BBR.name, DOWN): 18.4e6,
    (UDP.name, DOWN): 16.4e6,
}
"""Steady rates of a 170 ms path with a queue up and a policer down."""
POLICER = Finding(DOWN, Cause.POLICER, Confidence.LIKELY, "a policer: 20.0 Mbit/s, burst 192 KB")


def measured(
    facts: ContenderFacts, way: Direction, number: int, bits: float, started_s: float = 0.0
) -> MeasuredTest:
    """A test with round figures, 4 intervals, and that steady rate."""
    kcp, udp = facts.transport.startswith("kcp"), facts.transport == "udp"
    return MeasuredTest(
        facts.name,
        way,
        number,
        started_s,
        seconds=6.8,
        steady_from_s=3.4,
        steady_bits_per_second=bits,
        packet_bits_per_second=bits * 1.04,
        target_bits_per_second=bits if udp else 0.0,
        startup_s=1.2,
        startup_bytes=3_000_000,
        idle_rtt_us=170_300.0,
        rtt_us={"p5": 171e3, "p50": 178e3, "p95": 179e3 if kcp else 301e3, "max": 310e3},
        wire_per_payload=1.04 if not kcp else 1.06,
        resent_percent=None if udp else 1.5,
        in_vain_percent=0.0 if kcp else None,
        loss_percent=1.0 if kcp or udp else None,
        sent_bytes=16_000_000,
        limit=POLICER if way is DOWN else None,
        series={
            "end_s": (1.7, 3.4, 5.1, 6.8),
            "bits_per_second": (bits / 2, bits, bits, bits),
            "rtt_us": (170e3, None, 178e3, 179e3),
        },
    )


def messages(facts: ContenderFacts, number: int, slow_us: int, draws: Random) -> MeasuredMessages:
    """200 messages, of which the twentieth part takes about `slow_us` longer."""
    trips = tuple(
        170_000 + draws.randrange(900) + (slow_us + draws.randrange(900) if place % 20 == 0 else 0)
        for place in range(200)
    )
    return MeasuredMessages(facts.name, number, 1.0, "", 100, 100, 200, 200, trips, 90_000)


def whole(
    rounds: int = 7,
    contenders: Sequence[ContenderFacts] = (TCP_BBR, CUBIC, KCP, KCP_BBR, UDP),
    *,
    spread: float = 0.005,
    seed: int = 1,
) -> ComparisonReport:
    """A 170 ms path with a queue up and a policer down. `spread`: standard deviation of the tests."""
    draws = Random(seed)
    tests: list[MeasuredTest] = []
    answered: list[MeasuredMessages] = []
    for number in range(1, rounds + 1):
        for facts in contenders:
            for way in DIRECTIONS:
                bits = MEANS[facts.name, way] * draws.gauss(1.0, 0.0 if not facts.ranked else spread)
                tests.append(measured(facts, way, number, bits, 8.0 * len(tests)))
            slow_us = 40_000 if facts.transport == "kcp-bbr" else 190_000
            answered.append(messages(facts, number, slow_us, draws))
    return ComparisonReport(
        host="192.0.2.7",
        port=5201,
        unix_time=1_795_953_000.0,
        seconds=466.2,
        limit_s=480.0,
        sent_bytes=1_284_000_000,
        seed=7,
        contenders=tuple(contenders),
        directions=DIRECTIONS,
        tests=tuple(tests),
        messages=tuple(answered),
        rounds=rounds,
        test_s=6.8,
        startup_s=3.4,
        rest_s=0.7,
        version="iperfpy 0.1.0",
        system_info="Linux",
        peer_is_iperfpy=True,
        address="192.0.2.7",
    )


def brief() -> ComparisonReport:
    """Two rounds of a short comparison."""
    return replace(whole(2), seconds=39.5, limit_s=40.0)


def stock() -> ComparisonReport:
    """A stock server that went away in the third round: nothing but TCP, one failed test, no messages."""
    report = whole(3, (TCP_BBR, CUBIC))
    reason = "192.0.2.7 runs a stock iperf3 server, which cannot run kcp: that needs iperfpy at both ends"
    echoes = "192.0.2.7 runs a stock iperf3 server, which does not echo messages"
    error = "cannot connect to 192.0.2.7 port 5201: connection refused"
    last = MeasuredTest(CUBIC.name, DOWN, 3, 200.0, error)
    return replace(
        report,
        contenders=(TCP_BBR, CUBIC, KCP),
        tests=(*report.tests[:-1], last),
        messages=(),
        rounds=2,
        left_out=(
            LeftOut("kcp", None, reason),
            LeftOut("tcp bbr", None, echoes, messages=True),
            LeftOut("tcp cubic", None, echoes, messages=True),
        ),
        peer_is_iperfpy=False,
        error=error,
    )


def nothing() -> ComparisonReport:
    """No server."""
    error = "cannot connect to 192.0.2.7 port 5201: connection refused"
    return ComparisonReport("192.0.2.7", 5201, 1_795_953_000.0, 1.1, error=error)


SCENES = {"whole": whole, "brief": brief, "stock": stock}


def text(report: ComparisonReport, width: int | None = None, letter: str = "") -> str:
    """Return the printed text."""
    out = io.StringIO()
    screen = PlainScreen(out, width)
    for line in lines(report, width, letter):
        screen.line(*line)
    return out.getvalue()


def golden() -> Iterator[tuple[Path, str]]:
    """Yield each golden file and the text that it should have."""
    for name, scene in SCENES.items():
        yield FOLDER / f"compare-{name}.txt", text(scene())
        yield FOLDER / f"compare-{name}-80-columns.txt", text(scene(), 80)


if __name__ == "__main__":
    for path, content in golden():
        path.write_text(content)
