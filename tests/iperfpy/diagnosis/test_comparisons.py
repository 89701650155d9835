"""UDP beside TCP, the two directions, grades, and the rates of the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from iperfpy.diagnosis import both_ways, bufferbloat, ladder, udp_differs
from iperfpy.diagnosis.direction import DirectionDiagnosis
from iperfpy.diagnosis.evidence import EndFigures, RunEvidence
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.plan import Direction
from iperfpy.protocols.path_evidence import HELD_UP, PathEvidence
from tests.iperfpy.diagnosis.synthetic import Path, run, rung, stream


def rounds(tcp: Sequence[float], kcp: Sequence[float], udp: Sequence[float]) -> list[list[RunEvidence]]:
    """Rounds of three tests; bare datagrams at 0.9 of the first rate of TCP."""
    return [
        [
            run(transport="tcp", over_udp=False, bits_per_second=a),
            run(bits_per_second=b),
            run(
                transport="udp",
                reliable=False,
                controlled=False,
                bits_per_second=c,
                target_bits_per_second=0.9 * tcp[0],
            ),
        ]
        for a, b, c in zip(tcp, kcp, udp, strict=True)
    ]


def test_equal_rates_are_treated_alike() -> None:
    result = udp_differs.compare(rounds([20e6, 19e6, 20e6], [19e6] * 3, [18e6] * 3), Direction.FORWARD)
    assert result.finding is None
    assert "alike" in result.alike
    assert "3 rounds" in result.alike


def test_datagrams_that_are_lost_at_tcps_rate_are_treated_differently() -> None:
    result = udp_differs.compare(rounds([20e6] * 3, [5e6] * 3, [5e6] * 3), Direction.REVERSE)
    assert result.finding is not None
    assert result.finding.cause is Cause.DATAGRAMS_DIFFER
    assert result.finding.confidence is Confidence.SURE
    assert result.finding.direction is Direction.REVERSE


def test_a_slow_kcp_beside_fast_datagrams_is_not_the_providers_affair() -> None:
    result = udp_differs.compare(rounds([20e6] * 3, [5e6] * 3, [18e6] * 3), Direction.FORWARD)
    assert result.finding is None
    assert result.alike


def test_rates_that_do_not_repeat_are_not_compared() -> None:
    result = udp_differs.compare(rounds([20e6, 9e6, 8e6], [5e6] * 3, [5e6] * 3), Direction.FORWARD)
    assert result.finding is None
    assert not result.alike
    assert "differ by" in result.missing


def test_a_kcp_that_does_not_repeat_leaves_the_comparison_of_datagrams() -> None:
    """Its recovery depends on the losses, and bare datagrams are compared."""
    tests = rounds((20e6, 19e6, 20e6), (6e6, 9e6, 14e6), (8e6, 8.1e6, 8e6))
    found = udp_differs.compare(tests, Direction.FORWARD)
    assert found.finding is not None
    assert found.finding.cause is Cause.DATAGRAMS_DIFFER


def test_losses_that_tcp_has_as_well_are_the_paths() -> None:
    tests = rounds([1e6] * 3, [0.8e6] * 3, [0.78e6] * 3)
    assert udp_differs.compare(tests, Direction.FORWARD).finding is not None
    resent = EndFigures(resent=90.0, transmitted=1_000.0)
    lossy = [[replace(one, figures=resent) if not one.over_udp else one for one in each] for each in tests]
    result = udp_differs.compare(lossy, Direction.FORWARD)
    assert result.finding is None
    assert "treated alike" in result.alike


def test_a_receiver_that_did_not_run_says_nothing_about_the_path() -> None:
    tests = rounds([20e6] * 3, [5e6] * 3, [5e6] * 3)
    held = PathEvidence(extra={HELD_UP[0]: 0.6e6 * tests[0][0].seconds})
    tests[1] = [replace(one, path=(held,)) for one in tests[1]]
    result = udp_differs.compare(tests, Direction.FORWARD)
    assert result.finding is None
    assert not result.alike
    assert "did not run for 60" in result.missing


def test_two_rounds_are_too_few() -> None:
    result = udp_differs.compare(rounds([20e6] * 2, [5e6] * 2, [5e6] * 2), Direction.FORWARD)
    assert "3 rounds are needed" in result.missing


def diagnosis(direction: Direction, rate: float | None, cause: Cause = Cause.LINE) -> DirectionDiagnosis:
    finding = Finding(direction, cause, Confidence.SURE, "")
    error = None if rate is None else 0.01 * rate
    return DirectionDiagnosis(direction, rate, error, None, (finding,), bufferbloat.Bufferbloat())


def test_asymmetry_names_both_limits_and_their_causes() -> None:
    up, down = diagnosis(Direction.FORWARD, 5e6, Cause.POLICER), diagnosis(Direction.REVERSE, 50e6)
    (finding,) = both_ways.conclude(up, down)
    assert finding.cause is Cause.ASYMMETRY
    assert finding.evidence["ratio"] == pytest.approx(10)
    assert "up policer" in finding.because
    assert "down line" in finding.because


def test_nearly_equal_or_unknown_directions_are_no_asymmetry() -> None:
    for down in (5.5e6, None):
        pair = diagnosis(Direction.FORWARD, 5e6), diagnosis(Direction.REVERSE, down)
        assert both_ways.conclude(*pair) == ()


@pytest.mark.parametrize(
    ("increase_ms", "letter"), [(4.9, "A+"), (5, "A"), (59, "B"), (60, "C"), (399, "D"), (400, "F")]
)
def test_grades_have_the_usual_bounds(increase_ms: float, letter: str) -> None:
    loads = [bufferbloat.LoadedRtt(19e6, 50e3 + 1e3 * increase_ms), bufferbloat.LoadedRtt(20e6, 50e3)]
    assert bufferbloat.grade(50e3, loads, [19e6, 20e6]).letter == letter


@pytest.mark.parametrize(
    ("idle", "load", "session", "reason"),
    [
        (None, bufferbloat.LoadedRtt(20e6, 60e3), [20e6, 20e6], "before the load is not known"),
        (50e3, bufferbloat.LoadedRtt(20e6, None), [20e6, 20e6], "no echo"),
        (50e3, bufferbloat.LoadedRtt(15.9e6, 60e3), [15.9e6, 20e6], "did not reach 80 %"),
        (50e3, bufferbloat.LoadedRtt(None, 60e3), [19e6, 20e6], "did not reach 80 %"),
        (50e3, bufferbloat.LoadedRtt(20e6, 60e3), [20e6], "single test"),
        (50e3, bufferbloat.LoadedRtt(20e6, 60e3), [], "single test"),
        (50e3, bufferbloat.LoadedRtt(0, 60e3), [0, 0], "did not reach 80 %"),
    ],
)
def test_a_missing_grade_has_a_reason(
    idle: float | None, load: bufferbloat.LoadedRtt, session: list[float], reason: str
) -> None:
    grade = bufferbloat.grade(idle, [load], session)
    assert not grade.letter
    assert reason in grade.reason
    # The number is there all the same, where it was measured.
    assert (grade.increase_us is None) == (idle is None or load.rtt_p95_us is None)


def test_a_load_of_80_percent_of_the_best_rate_is_graded() -> None:
    loads = [bufferbloat.LoadedRtt(16e6, 80e3), bufferbloat.LoadedRtt(15e6, 900e3)]
    assert bufferbloat.grade(50e3, loads, [15e6, 16e6, 20e6]) == bufferbloat.Bufferbloat("B", 30e3)


def test_the_ladder_has_eight_rates_in_an_order_of_the_seed() -> None:
    one, other = ladder.rates(10e6, 1), ladder.rates(10e6, 2)
    assert sorted(one) == sorted(other) == [share * 10e6 for share in ladder.SHARES]
    assert one != other


def test_the_estimate_is_the_rate_of_the_last_half() -> None:
    policed = stream(Path(rate=50e6, police=4e6, bucket=400_000, queue=100_000), 8e6)
    assert ladder.estimate(
        [[run(path=(PathEvidence(flight=policed),), bits_per_second=1e6)]]
    ) == pytest.approx(4e6, rel=0.02)


def test_the_ladder_goes_on_until_something_is_lost() -> None:
    rng = np.random.default_rng(1)
    rungs = [rung(Path(rate=10e6), share * 2e6, rng) for share in ladder.SHARES]
    tried: list[float] = []
    while further := ladder.further(rungs):
        tried += further
        rungs += [rung(Path(rate=10e6), rate, rng) for rate in further]
    assert 10.8e6 < max(tried) < 20e6
    assert tried == sorted(tried)


def test_the_ladder_ends_though_nothing_is_ever_lost() -> None:
    rng = np.random.default_rng(1)
    fast = Path(rate=1e9, queue=10**9)
    rungs = [rung(fast, share * 1e6, rng, size=300, seconds=0.2) for share in ladder.SHARES]
    while further := ladder.further(rungs):
        rungs += [rung(fast, rate, rng, size=300, seconds=0.2) for rate in further]
    assert len(rungs) == ladder.MOST_RUNGS


def test_slow_rungs_have_short_packets() -> None:
    assert ladder.packet_bytes(1e6, 1_500) == 468
    assert ladder.packet_bytes(1e5, 1_500) == ladder.SHORTEST_PACKET
    assert ladder.packet_bytes(50e6, 1_420) == 1_420


def test_a_bucket_gets_time_to_fill_before_rungs_near_the_rate() -> None:
    assert ladder.pause_s(1.1e6, 1e6) == ladder.FILL_S
    assert ladder.pause_s(0.5e6, 1e6) == 0
