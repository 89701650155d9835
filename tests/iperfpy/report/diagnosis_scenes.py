"""Diagnoses made by hand, and their golden texts:

python -m tests.iperfpy.report.diagnosis_scenes     writes the golden files again
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from iperfpy.diagnosis.bufferbloat import Bufferbloat
from iperfpy.diagnosis.direction import DirectionDiagnosis
from iperfpy.diagnosis.evidence import DirectionEvidence, IdlePath, RunEvidence, Rung
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.diagnosis.path_report import DirectionReport, PathReport
from iperfpy.plan import Direction
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.report.diagnosis_text import lines
from iperfpy.report.screen import PlainScreen

FOLDER = Path(__file__).parents[2] / "golden" / "report"
UP, DOWN = Direction.FORWARD, Direction.REVERSE
IDLE = IdlePath({"p5": 170.1e3, "p50": 170.4e3, "p95": 171.0e3, "max": 171.2e3}, 1500, 1500, 15)


def run(name: str, way: Direction, bits: float, target: float = 0.0, loss: float = 0.0) -> RunEvidence:
    plain = name == "udp"
    return RunEvidence(
        name,
        not plain,
        not plain,
        1,
        3.1,
        bits,
        way,
        target,
        {"bytes": 1, "congestion": None if plain else "bbr"},
        {"bytes": 1, "loss_percent": loss} if plain else {"bytes": 1},
        (PathEvidence(min_rtt_us=170e3, limited_us={"pacing": 3_100_000}),),
        {"sender_total": 9.5, "receiver_total": 8.0},
        170.3e3,
        1400 if plain else 0,
        name != "tcp",
    )


def evidence(way: Direction, tcp: float, kcp: float) -> DirectionEvidence:
    tests = (run("tcp", way, tcp), run("kcp-bbr", way, kcp), run("udp", way, tcp * 0.9, tcp * 0.9))
    rung = Rung(20e6, 1428, 1.5, 2626, 2600, {"p50": 171e3, "p95": 172e3})
    return DirectionEvidence(way, IDLE, (rung,), (tests, tests, tests))


QUEUE = Finding(
    UP,
    Cause.QUEUE,
    Confidence.SURE,
    "your own queue: 425 KB (142 ms at this rate) before the bottleneck, tail drop",
    "the RTT rises to 309 ms before each loss; 71 % of the resent segments of kcp had arrived",
    "KCP: window 380, not 512 (BDP 340 segments); router: fq_codel or CAKE at 22 Mbit/s",
    {"queue_bytes": 425_000, "queue_ms": 142},
)
POLICER = Finding(
    DOWN,
    Cause.POLICER,
    Confidence.LIKELY,
    "a policer: 20.0 Mbit/s, burst 192 KB, drops what exceeds it",
    "loss begins 0.31 s in, the RTT stays flat (170 to 172 ms), 91 of 93 losses with an empty bucket",
    "pace at 19.6 Mbit/s (kcp-bbr does), or ask for a shaper; a larger window makes it worse",
    {"rate_bits_per_s": 20e6, "burst_bytes": 192_000},
    1.2,
)
NOISE = Finding(DOWN, Cause.NOISE, Confidence.POSSIBLE, "random loss: 0.5 %", "the same share at all rates")
ASYMMETRY = Finding(
    DOWN, Cause.ASYMMETRY, Confidence.SURE, "the two directions differ by a factor of 1.2", "up queue"
)


def whole() -> PathReport:
    """A 170 ms path with a queue up and a policer down."""
    alike = "UDP and TCP are treated alike (tcp 20.5 Mbit/s; kcp-bbr 20.1 Mbit/s; udp, 0.1 % lost; 3 rounds)"
    up = DirectionDiagnosis(UP, 24.0e6, 1e4, 20.5e6, (QUEUE,), Bufferbloat("C", 139e3), alike=alike)
    down = DirectionDiagnosis(
        DOWN,
        20.0e6,
        1e4,
        17.7e6,
        (POLICER, NOISE),
        Bufferbloat("A+", 2.2e3),
        ("the longest packet that passes",),
    )
    return PathReport(
        "192.0.2.7",
        5201,
        1_795_953_000.0,
        119.6,
        184_000_000,
        version="iperfpy 0.1.0",
        system_info="Linux",
        server_version="iperfpy 8",
        server_system_info="Linux 6.1 x86_64",
        peer_is_iperfpy=True,
        address="192.0.2.7",
        idle=IDLE,
        directions=(
            DirectionReport(UP, evidence(UP, 20.5e6, 20.1e6), up),
            DirectionReport(DOWN, evidence(DOWN, 17.9e6, 17.7e6), down),
        ),
        both_ways=(ASYMMETRY,),
    )


def udp_differs() -> PathReport:
    """A path that changed, treats UDP differently, and was left early by an error; a stock server."""
    report = whole()
    up = report.directions[0]
    differs = Finding(UP, Cause.DATAGRAMS_DIFFER, Confidence.POSSIBLE, "UDP is treated differently")
    unknown = Finding(
        UP, Cause.UNKNOWN, Confidence.POSSIBLE, "12 losses: too few to tell a policer (15 needed)"
    )
    diagnosis = replace(
        up.diagnosis,
        findings=(differs, unknown),
        capacity_bits_per_s=None,
        carried_bits_per_s=950e3,
        bufferbloat=Bufferbloat(reason="the load did not reach 80 % of the path's rate"),
        changed="the rate fell from 20 to 12 Mbit/s between the rounds",
    )
    measured = evidence(UP, 950e3, 940e3)
    tests = measured.rounds[0][0], run("udp", UP, 0.0, 855e3, 100.0)
    return replace(
        report,
        address="2001:db8::7",
        peer_is_iperfpy=False,
        idle=IdlePath({"p50": 87.0}),
        directions=(replace(up, diagnosis=diagnosis, evidence=replace(measured, rounds=(tests,))),),
        both_ways=(),
        not_checked=("kcp-bbr (the server is a stock iperf3)",),
        error="the server closed the control connection unexpectedly",
    )


def nothing() -> PathReport:
    """No server."""
    error = "cannot connect to 192.0.2.7 port 5201: connection refused"
    return PathReport("192.0.2.7", 5201, 1_795_953_000.0, 1.1, error=error)


SCENES = {"whole": whole, "udp-differs": udp_differs}


def text(report: PathReport, width: int | None = None, letter: str = "") -> str:
    """Return the printed text."""
    out = io.StringIO()
    screen = PlainScreen(out, width)
    for line in lines(report, width, letter):
        screen.line(*line)
    return out.getvalue()


def golden() -> Iterator[tuple[Path, str]]:
    """Yield each golden file and the text that it should have."""
    for name, scene in SCENES.items():
        yield FOLDER / f"diagnosis-{name}.txt", text(scene())
    yield FOLDER / "diagnosis-whole-80-columns.txt", text(whole(), 80)


if __name__ == "__main__":
    for path, content in golden():
        path.write_text(content)
