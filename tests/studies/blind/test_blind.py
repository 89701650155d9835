"""The generator, the verdicts, and one experiment from the path to the finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from iperfpy.diagnosis.advice import Recommendation
from iperfpy.diagnosis.finding import Cause
from iperfpy.protocols.datagrams.batch import DatagramBatch
from tests.studies.blind import rows, verdicts
from tests.studies.blind.advice_trial import Trial, put_to_proof
from tests.studies.blind.datagram_flows import Collector, SlowReader
from tests.studies.blind.drawing import KINDS, LATER, LATER_KINDS, LATER_PAIRS, PAIRS, draw, kinds_of
from tests.studies.blind.outcome import Figures, Outcome, examine, prove


def outcome(truth: dict[str, Figures], found: dict[str, Figures]) -> Outcome:
    """An outcome with a rate of 10 Mb/s."""
    return Outcome(1, ["policer"], "path", truth, found, [], 10e6, 10.2e6, 1e5)


def test_a_seed_gives_the_same_path_again() -> None:
    for seed in range(1, 40):
        assert draw(seed).name == draw(seed).name
        assert draw(seed).truth == draw(seed).truth


def test_neighbouring_seeds_cover_every_kind_every_pair_and_none() -> None:
    seen = {kinds_of(seed) for seed in range(1, 400)}
    assert () in seen
    assert {kind for kinds in seen if len(kinds) == 1 for kind in kinds} == set(KINDS)
    assert {kinds for kinds in seen if len(kinds) == 2} == set(PAIRS)


def test_later_seeds_have_more_kinds_and_earlier_ones_the_paths_of_the_records() -> None:
    seen = {kinds_of(seed) for seed in range(LATER, LATER + 600)}
    assert {kind for kinds in seen if len(kinds) == 1 for kind in kinds} == {*KINDS, *LATER_KINDS}
    assert {kinds for kinds in seen if len(kinds) == 2} == set(LATER_PAIRS)
    assert not {kind for seed in range(1, LATER) for kind in kinds_of(seed)} & set(LATER_KINDS)
    assert draw(1010).name.startswith("1010 none: 1.2 Mb/s, 10 ms; rate_bits_per_s=1161814.92")


def test_the_truth_of_later_kinds() -> None:
    causes = {
        "asymmetry": Cause.ASYMMETRY,
        "udp-differs": Cause.DATAGRAMS_DIFFER,
        "processor": Cause.PROCESSOR,
    }
    for path in map(draw, range(2001, 2200)):
        for kind, cause in causes.items():
            assert (kind in path.kinds) == (cause in path.truth)
        assert path.both_ways == (not path.kinds or "asymmetry" in path.kinds)
        if path.both_ways:
            other = path.reversed
            assert (other.there, other.back) == (path.back, path.there)
            assert other.rate == path.back["rate_bits_per_s"]


def test_a_slow_machine_takes_its_rate_and_the_room_of_its_buffer() -> None:
    collector = Collector()
    reader = SlowReader(collector, packets_per_s=1_000.0, room=20)
    batch = DatagramBatch.of(np.zeros(50 * 100, np.uint8), 100)
    reader.receive(batch, 0)
    assert (len(collector.arrivals[0]), reader.dropped) == (20, 30)
    reader.receive(batch.head(10), 5_000)  # five have been read
    assert (len(collector.arrivals[0]), reader.dropped) == (25, 35)


def test_the_truth_follows_the_properties_and_is_never_empty() -> None:
    for seed in (*range(1, 200), *range(1401, 1500)):
        path = draw(seed)
        assert path.truth
        deep = path.there["buffer_bytes"] * 8e6 / path.rate > path.fair_us
        plain = "police_bits_per_s" not in path.there and not path.reads_per_s
        assert (Cause.QUEUE in path.truth) == (plain and (deep or "codel" in path.there))
        assert (Cause.LINE in path.truth) == (path.truth.keys() <= {Cause.LINE, Cause.ASYMMETRY})


def test_found_missed_and_invented_are_counted_by_cause() -> None:
    outcomes = [
        outcome({"policer": {}, "noise": {}}, {"policer": {}, "queue": {}}),
        outcome({"line": {}}, {"line": {}, "unknown": {}}),
    ]
    total, *each = verdicts.scores(outcomes)
    assert (total.right, total.invented, total.missed) == (2, 1, 1)
    assert total.precision == pytest.approx(2 / 3)
    assert {score.cause: score.recall for score in each} == {
        "queue": None,
        "policer": 1.0,
        "noise": 0.0,
        "line": 1.0,
    }
    assert len(verdicts.cannot_tell(outcomes)) == 1
    assert not verdicts.false_policers(outcomes)


def test_errors_are_compared_with_what_is_allowed() -> None:
    one = outcome(
        {"noise": {"share": 0.02}, "queue": {"aqm": 0, "queue_bytes": 1_000}},
        {
            "noise": {"share": 0.026, "error": 0.002},
            "queue": {"queue_bytes": 800, "full": 1, "drops": "tail"},
        },
    )
    assert [error.met for error in verdicts.capacity_errors([one])] == [True]
    assert [error.met for error in verdicts.capacity_errors([replace(one, true_rate=9.5e6)])] == [False]
    assert [error.met for error in verdicts.loss_errors([one])] == [False]
    assert [error.met for error in verdicts.queue_errors([one])] == [False]
    assert [error.met for error in verdicts.drops_right([one])] == [True]
    assert "queue size, tail drop off by -0.2" in rows.misses([one])


def test_a_promise_is_kept_within_a_tenth() -> None:
    assert Trial(1e6, 1.85e6, 2.0).kept
    assert not Trial(1e6, 1.75e6, 2.0).kept
    assert Trial(1e6, 0.98e6, None).as_good
    assert not Trial(1e6, 0.9e6, None).as_good


def test_settings_stay_where_no_better_rate_is_known() -> None:
    unknown = Recommendation("kcp-bbr", 2_048, 1e6, 1_400, None)
    assert not unknown.improves(0.9e6)
    expected, measured = replace(unknown, expected_bits_per_s=1e6), replace(unknown, measured_bits_per_s=1e6)
    for known in (expected, measured):
        assert known.improves(0.9e6)
        assert not known.improves(1.1e6)
    assert not replace(expected, measured_bits_per_s=1.2e6).improves(1.1e6)
    path = draw(2265)
    kept = put_to_proof(path, replace(unknown, expected_bits_per_s=1.0))
    assert not kept.changes
    assert kept.as_good
    assert kept.advised == kept.before > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2107, 2147, 2265, 2301], ids=lambda seed: "+".join(kinds_of(seed)))
def test_later_kinds_are_found_in_their_experiments(seed: int) -> None:
    one = examine(seed)
    assert not one.missed | one.invented, one.sentences


@pytest.mark.slow
def test_a_policer_is_diagnosed_from_its_packets_and_the_advice_holds() -> None:
    found = prove(examine(5))
    assert set(found.found) == {"policer"}
    assert not found.missed | found.invented
    assert all(error.met for _, errors in verdicts.ERRORS.values() for error in errors([found]))
    assert not verdicts.advice_faults(found)
    assert "policer" in rows.confusion([found]).text()
