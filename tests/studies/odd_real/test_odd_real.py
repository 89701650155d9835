"""The parts of the study that need no path: limits, figures of documents, verdicts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.studies.odd_real.emulated_paths import PAYLOAD_SHARE, Change, OddPath, odd_paths
from tests.studies.odd_real.emulator import Lab, first_second_lost, missing
from tests.studies.odd_real.one_run import figures_of
from tests.studies.odd_real.verdict import judge

PLAIN = OddPath("J plain", 50, "delay=10ms", "delay=10ms", 20)
STEP = OddPath(
    *("L step", 20, "delay=30ms", "delay=30ms", 60),
    changes=lambda seconds: (Change(6.0, "ab", "loss=10", 20, 0.1),),
    since_change=True,
)
START = OddPath("I start", 20, "delay=85ms", "delay=85ms", 170, start=True)


def test_every_path_has_a_name_of_its_own_and_a_limit() -> None:
    paths = list(odd_paths())
    assert len({path.name for path in paths}) == len(paths)
    assert {path.name[0] for path in paths} == set("LAJGRSWMBCDI")
    for path in paths:
        for seconds in (8.0, 20.0):
            assert 0 <= path.measured_from_s(seconds) < seconds
            assert 0 < path.limit_mbit(seconds, path.measured_from_s(seconds)) <= 150 * PAYLOAD_SHARE
            times = [change.at_s for change in path.changes(seconds)]
            assert times == sorted(times)
            assert all(0 < at_s < seconds for at_s in times)


def test_the_limit_is_the_mean_over_the_measured_time() -> None:
    assert PLAIN.limit_mbit(20, 5) == pytest.approx(50 * PAYLOAD_SHARE)
    assert STEP.limit_mbit(10, 2) == pytest.approx((4 * 20 + 4 * 18) / 8 * PAYLOAD_SHARE)
    assert STEP.measured_from_s(20) == 6.0
    assert START.measured_from_s(10) == 0.0


def test_the_rate_is_the_receivers_in_the_measured_intervals() -> None:
    def stream(second: int) -> dict[str, Any]:
        times = {"start": second + 0.01, "end": second + 1.01}
        return {**times, "rtt": 9_000, "mean_rtt": 20_000, "peer": {**times, "bytes": second * 125_000}}

    document = {
        "intervals": [{"streams": [stream(second)]} for second in range(4)],
        "end": {"sum_received": {"bits_per_second": 7e6}},
    }
    assert figures_of(document, 2.0, whole=False) == {
        "mbit": pytest.approx(2.5),
        "rtt_ms": pytest.approx(20),
    }
    assert figures_of(document, 0.0, whole=True)["mbit"] == 7
    theirs = {
        "intervals": [{"streams": [{"start": 0, "rtt": 30_000}]}],
        "server_output_json": {"intervals": [{"sum": {"start": 0, "end": 1, "bytes": 250_000}}]},
        "end": document["end"],
    }
    assert figures_of(theirs, 0.0, whole=False) == {"mbit": pytest.approx(2), "rtt_ms": pytest.approx(30)}


def run(program: str, mbit: float, rtt_ms: float = 20, **more: Any) -> dict[str, Any]:
    return {"program": program, "mbit": mbit, "rtt_ms": rtt_ms, "unclean": "", **more}


@pytest.mark.parametrize(
    ("path", "runs", "misses"),
    [
        (PLAIN, [run("kcp-bbr", 46), run("kcp-bbr", 10), run("kcp-bbr", 47), run("bbr", 47)], ()),
        (PLAIN, [run("kcp-bbr", 40), run("bbr", 47)], ("rate 0.85 of BBR's",)),
        (PLAIN, [run("kcp-bbr", 47, 22.1), run("bbr", 47)], ("RTT 1.10 of BBR's",)),
        # The kernel's BBR is far from the limit: its RTT says nothing.
        (PLAIN, [run("kcp-bbr", 47, 29), run("bbr", 20)], ()),
        (PLAIN, [run("kcp-bbr", 47, 31), run("bbr", 20)], ("RTT 1.55 of the path's",)),
        (START, [run("kcp-bbr", 16.9, 900), run("bbr", 17)], ("rate 0.99 of BBR's",)),
        (
            START,
            [run("kcp-bbr", 17, first_second_lost=0.06), run("bbr", 17)],
            ("lost in the first second 6.0 %",),
        ),
        (PLAIN, [{"program": "kcp-bbr", "error": "no answer"}], ("failed: no answer",)),
    ],
)
def test_medians_are_held_against_the_targets(
    path: OddPath, runs: list[dict[str, Any]], misses: tuple[str, ...]
) -> None:
    verdict = judge(path, runs, 20)
    assert verdict.misses == misses
    assert verdict.word == ("BELOW" if misses else "PASS")


def test_without_the_kernels_bbr_there_is_no_verdict() -> None:
    verdict = judge(PLAIN, [run("kcp-bbr", 40)], 20)
    assert (verdict.misses, verdict.word) == ((), "")


def test_wide_jitter_is_held_against_the_limit() -> None:
    (wide,) = (path for path in odd_paths() if path.wide)
    limit = wide.limit_mbit(20, 5)
    assert judge(wide, [run("kcp-bbr", 0.96 * limit, 32)], 20).misses == ()
    assert judge(wide, [run("kcp-bbr", 0.9 * limit, 32)], 20).misses == ("rate 0.90 of the limit",)


def test_a_late_emulator_and_its_own_drops_make_a_run_unclean() -> None:
    clean = {"ab": {"tun_in_drop_p": 0}, "ba": {}, "late_us": {"p99": 300.0}}
    assert Lab(Path(), "x", clean).unclean == ""
    assert "12.0 ms late" in Lab(Path(), "x", {**clean, "late_us": {"p99": 12_000}}).unclean
    assert "tun_out_drop_p" in Lab(Path(), "x", {**clean, "ba": {"tun_out_drop_p": 3}}).unclean


def test_losses_of_the_first_second_are_those_at_the_full_queue(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    lines = ["t,dir,in_b,queue_drop_p,loss_p", "0.1,ab,1000,0,0", "0.1,ba,99999,9,0"]
    lines += [f"{0.2 + step / 10:.1f},ab,{100 * 1428},{10 * (step < 5)},50" for step in range(20)]
    trace.write_text("\n".join(lines))
    assert first_second_lost(trace) == pytest.approx(50 / 1000)
    trace.write_text("\n".join(lines[:2]))
    assert first_second_lost(trace) is None


def test_without_the_emulator_the_study_says_so(tmp_path: Path) -> None:
    assert "give its folder" in missing("")
    assert "lab.sh is missing" in missing(str(tmp_path))
    command = [sys.executable, "-m", "tests.studies.odd_real", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("no emulator: ")
