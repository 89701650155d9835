"""What BBR's model believes: the minimum round-trip time, the loss floor, the allowance for aggregation."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.ack_aggregation import MAX_AGGREGATION_US, AckAggregation
from iperfpy.protocols.congestion.bbr.control_parameters import MINIMUM_WINDOW, ControlParameters
from iperfpy.protocols.congestion.bbr.inflight_bound import InflightBound
from iperfpy.protocols.congestion.bbr.loss_floor import WINDOW_US, LossFloor
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth
from iperfpy.protocols.congestion.bbr.min_rtt import MIN_RTT_FILTER_US, PROBE_RTT_INTERVAL_US, MinRtt
from iperfpy.protocols.congestion.bbr.phases import OfferedLoad
from iperfpy.protocols.congestion.bbr.probe_rtt import ProbeRtt
from iperfpy.protocols.congestion.bbr.probe_wait import ProbeWait
from iperfpy.protocols.congestion.congestion_control import Ack

SECOND = 1_000_000


def _fed(*samples_ms: float) -> tuple[MinRtt, int]:
    """A round every 100 ms, all of whose samples are the same."""
    rtt, now_us = MinRtt(), 0
    for sample_ms in samples_ms:
        now_us += 100_000
        _round(rtt, now_us, *[sample_ms] * 20)
    return rtt, now_us


def _round(rtt: MinRtt, now_us: int, *samples_ms: float, self_queued: bool = False) -> None:
    for sample_ms in samples_ms:
        rtt.update(int(sample_ms * 1e3), now_us)
    rtt.end_round(self_queued)


def test_without_a_sample_nothing_is_stale() -> None:
    """The first acknowledgement may bring none, and clocks do not start at zero."""
    assert not MinRtt().stale(3_600 * SECOND)


def test_a_queue_that_drains_renews_the_minimum() -> None:
    rtt, now_us = _fed(*[60, 70] * 60, 60)
    assert rtt.queue.seen
    assert not rtt.stale(now_us + PROBE_RTT_INTERVAL_US)


def test_samples_far_above_the_minimum_make_it_stale() -> None:
    rtt, now_us = _fed(60, *[70] * 50)
    assert not rtt.queue.seen
    assert rtt.stale(now_us + 100_000)


def test_samples_that_never_leave_the_minimum_only_put_it_off() -> None:
    """So looks a policer without a queue, and a queue that others keep full."""
    rtt, now_us = _fed(*[60, 61] * 40)
    assert not rtt.queue.seen
    assert not rtt.stale(now_us)
    assert not rtt.stale(MIN_RTT_FILTER_US)  # its multiples of five seconds, as for any other
    assert rtt.stale(MIN_RTT_FILTER_US + PROBE_RTT_INTERVAL_US)


def test_a_minimum_left_at_last_was_met_until_then() -> None:
    """A STARTUP of seven seconds does not stop for PROBE_RTT at its first queue."""
    rtt, now_us = _fed(*[60] * 70, *[80] * 2)
    assert not rtt.stale(now_us)
    rtt.update(80_000, now_us + PROBE_RTT_INTERVAL_US)
    assert rtt.stale(now_us + PROBE_RTT_INTERVAL_US)


def test_a_shorter_path_has_to_prove_itself_anew() -> None:
    rtt, _ = _fed(60, 70, 60)
    assert rtt.queue.seen
    rtt.update(59_000, SECOND)
    assert rtt.queue.seen
    rtt.update(40_000, SECOND)
    assert not rtt.queue.seen


def test_only_a_round_whose_average_is_near_the_minimum_shows_an_empty_queue() -> None:
    """In a queue that others keep full a single sample may come near it."""
    rtt, now_us = _fed(90, 120)
    _round(rtt, now_us, 90, *[120] * 19)
    assert not rtt.queue.seen
    _round(rtt, now_us, *[92] * 20, self_queued=True)  # we were filling it
    assert not rtt.queue.seen
    _round(rtt, now_us, *[92] * 20)
    assert rtt.queue.seen


def test_jitter_is_no_queue() -> None:
    """Samples between 60 and 80 ms: most lie far above the minimum, and show an empty queue all the same."""
    rtt, now_us = _fed()
    for _ in range(30):
        now_us += 100_000
        _round(rtt, now_us, *range(60, 80))
    _round(rtt, now_us, *range(90, 110))
    _round(rtt, now_us, *range(60, 80))
    assert rtt.queue.seen
    rtt.update(72_000, now_us)
    assert rtt.queue_empty
    assert not rtt.stale(now_us + PROBE_RTT_INTERVAL_US)
    rtt.update(77_000, now_us)
    assert not rtt.queue_empty


def _end_probe(rtt: MinRtt, measured_us: int, now_us: int, *, losing: bool) -> bool:
    """End a PROBE_RTT that measured this with its last sample, 0.1 s before."""
    before_us = rtt.last_round_us
    rtt.update(measured_us, now_us - 100_000)
    return rtt.end_probe(before_us, measured_us, now_us, losing=losing)


def test_a_probe_that_did_not_drain_the_queue_replaces_no_minimum_met_lately() -> None:
    rtt, now_us = _fed(60, 200, 60, *[200] * 10)
    _end_probe(rtt, 110_000, now_us + 200_000, losing=False)
    assert rtt.us == 60_000


def test_a_longer_path_replaces_the_minimum_at_once() -> None:
    rtt, now_us = _fed(60, 70, 60, *[200] * 10)
    _end_probe(rtt, 199_000, now_us + 200_000, losing=False)
    assert rtt.us == 199_000
    assert not rtt.queue.seen


def test_a_full_queue_that_others_keep_is_no_longer_path() -> None:
    """It loses, and emptying our share changes nothing; in the end it has to be believed all the same."""
    rtt, now_us = _fed(60, 70, 60, *[200] * 10)
    for waited_us, believed_us in ((0, 60_000), (3 * MIN_RTT_FILTER_US, 199_000)):
        _end_probe(rtt, 199_000, now_us + waited_us + 200_000, losing=True)
        assert rtt.us == believed_us


def _probed(rtt: MinRtt, now_us: int, before_ms: float, seen_ms: float) -> bool:
    """Queued for a second, then PROBE_RTT, which sees this."""
    for at in range(10):
        _round(rtt, now_us + at * 100_000, *[before_ms] * 20)
    return _end_probe(rtt, int(seen_ms * 1e3), now_us + SECOND + 200_000, losing=False)


def test_a_path_is_contested_when_probes_in_a_row_see_a_deep_queue_of_others() -> None:
    """Once is not enough, and that the value is believed in the end changes nothing."""
    rtt, now_us = _fed(60)
    assert _probed(rtt, now_us, before_ms=300, seen_ms=200)  # the bandwidth is what was delivered
    assert not rtt.contention.contested
    assert not _probed(rtt, now_us + MIN_RTT_FILTER_US, before_ms=300, seen_ms=200)
    assert rtt.contention.contested
    assert rtt.us == 200_000
    assert not _probed(
        rtt, now_us + 2 * MIN_RTT_FILTER_US, before_ms=300, seen_ms=290
    )  # nearly all of it is theirs
    assert rtt.contention.contested
    _probed(rtt, now_us + 3 * MIN_RTT_FILTER_US, before_ms=100, seen_ms=60)
    assert not rtt.contention.contested


def test_a_queue_of_flows_like_this_one_or_a_longer_path_is_not_contested() -> None:
    for before_ms, seen_ms in ((160, 140), (200, 199)):
        rtt, now_us = _fed(60)
        for probe in range(4):
            _probed(rtt, now_us + probe * MIN_RTT_FILTER_US, before_ms, seen_ms)
            assert not rtt.contention.contested


@pytest.mark.parametrize(("seen_ms", "contested"), [(200, True), (100, False)])
def test_a_contested_path_is_probed_at_multiples_of_five_seconds_only(
    seen_ms: float, *, contested: bool
) -> None:
    rtt, _ = _fed(60)
    for at_us in (2_000_000, 7_000_000):
        _probed(rtt, at_us, before_ms=300, seen_ms=seen_ms)
    assert rtt.contention.contested == contested
    for now_us in range(8_300_000, 13_400_000, 100_000):
        _round(rtt, now_us, *[300] * 20)
    assert rtt.stale(13_400_000) != contested
    assert rtt.stale(3 * PROBE_RTT_INTERVAL_US)


@pytest.mark.parametrize(("started_us", "first"), [(100_000, 1), (2_400_000, 1), (2_600_000, 2)])
def test_flows_of_one_clock_stop_together(started_us: int, first: int) -> None:
    """Whenever they began, but for those whose minimum is new: at a multiple of five seconds."""
    rtt = MinRtt()
    _round(rtt, started_us, *[60] * 20)
    for number in range(1, first):
        rtt.update(80_000, number * PROBE_RTT_INTERVAL_US)
        assert not rtt.stale(number * PROBE_RTT_INTERVAL_US)
    rtt.update(80_000, first * PROBE_RTT_INTERVAL_US)
    assert not rtt.stale(first * PROBE_RTT_INTERVAL_US - 1)
    assert rtt.stale(first * PROBE_RTT_INTERVAL_US)


@pytest.mark.parametrize(("queued_ms", "rounds"), [(80, 3), (300, 2)])
def test_a_sudden_queue_is_looked_at_after_two_of_its_rounds(queued_ms: float, rounds: int) -> None:
    """And after four of the minimum's length: rounds are as long as the queue is deep."""
    rtt, now_us = _fed(*[60, 70] * 60, 60, *[queued_ms] * (rounds - 1))
    assert not rtt.stale(now_us)
    _round(rtt, now_us + 100_000, *[queued_ms] * 20)
    assert rtt.stale(now_us + 100_000)


@pytest.mark.parametrize(
    ("least_ms", "samples_ms", "filling"),
    [
        (60, [100] * 20, True),
        (60, [85] * 20, False),
        (60, [100] * 10, False),  # too few
        (60, [*[100] * 20, 80], False),
        (1, [8] * 20, False),  # a busy host
        (1, [12] * 20, True),
    ],
)
def test_a_round_of_nothing_but_queue_is_filling(
    least_ms: int, samples_ms: list[int], *, filling: bool
) -> None:
    rtt, now_us = _fed(least_ms)
    for sample_ms in samples_ms:
        rtt.update(1_000 * sample_ms, now_us + 1)
    assert rtt.queue_fills == filling


@pytest.mark.parametrize(("queued_ms", "segments"), [(60, 30), (80, MINIMUM_WINDOW)])
def test_probe_rtt_gives_up_all_of_a_queue(queued_ms: float, segments: int) -> None:
    """Half of the BDP is kept only where there is none."""
    rtt, _ = _fed(60, queued_ms)
    model, probe_rtt = MaxBandwidth(), ProbeRtt()
    model.sample(1_000.0, 0)
    probe_rtt.enter(rtt.last_round_us, 0.0)
    controls = ControlParameters(10, rtt, LossFloor(), model, InflightBound(), AckAggregation(), probe_rtt)
    assert controls.probe_rtt_window == segments


def test_a_shorter_path_is_said_because_queues_looked_empty_that_were_not() -> None:
    rtt = MinRtt()
    assert not rtt.update(60_000, SECOND)
    assert not rtt.update(59_000, SECOND)
    assert rtt.update(40_000, SECOND)
    assert not rtt.update(38_000, SECOND)
    assert rtt.update(37_000, SECOND)  # little by little counts as well


def _noise(loss: float, cycles: int, cycle_us: int) -> tuple[LossFloor, int]:
    """A path that loses this share, driven below and at what it carries in turn; 100 segments each time."""
    noise, now_us = LossFloor(), 0
    for _ in range(cycles):
        for load in (OfferedLoad.BELOW_CAPACITY, OfferedLoad.AT_CAPACITY):
            now_us += cycle_us // 2
            noise.epochs.change_load(load, now_us)
            noise.epochs.on_delivered(now_us, round(100 * (1 - loss)), queued=False)
            noise.epochs.on_lost(now_us, round(100 * loss))
    return noise, now_us


def test_the_loss_of_a_path_is_learnt_whatever_the_phases_last() -> None:
    for cycle_us in (2_000_000, 2_000):
        noise, now_us = _noise(0.3, 50, cycle_us)
        assert noise.update(now_us + SECOND, drain_seen=True) == pytest.approx(0.3, abs=0.02)


def test_what_was_learnt_behind_a_queue_is_forgotten() -> None:
    noise, now_us = _noise(0.3, 50, SECOND)
    assert noise.update(now_us + SECOND, drain_seen=True) > 0.25
    noise.reset(now_us + SECOND)
    assert noise.update(now_us + 2 * SECOND, drain_seen=True) == 0.0
    assert not noise.known


def test_no_more_than_a_tenth_is_believed_of_a_path_whose_queue_never_drained() -> None:
    noise, now_us = _noise(0.3, 50, SECOND)
    assert noise.update(now_us + SECOND, drain_seen=False) == 0.1
    assert noise.update(now_us + 2 * SECOND, drain_seen=True) > 0.25


@pytest.mark.parametrize(("cycles", "believed"), [(1, 0.3), (50, 0.4)])
def test_more_is_believed_while_searching_and_more_yet_of_what_was_seen_for_long(
    cycles: int, believed: float
) -> None:
    """Or STARTUP would hardly grow on a path of heavy loss, whose queue it has not reached yet."""
    noise, now_us = _noise(0.5, cycles, SECOND)
    noise.epochs.change_load(OfferedLoad.UNKNOWN, now_us + SECOND)
    assert noise.update(now_us + SECOND, drain_seen=False) == believed
    noise.epochs.change_load(OfferedLoad.BELOW_CAPACITY, now_us + 2 * SECOND)
    assert noise.update(now_us + 2 * SECOND, drain_seen=False) == 0.1


def test_more_is_believed_of_a_path_that_something_else_kept_from_filling() -> None:
    """A sender whose application or window is the bound makes no queue, and so never sees one drain."""
    noise, now_us = _noise(0.3, 50, SECOND)
    noise.note_limited(now_us)
    assert noise.update(now_us + WINDOW_US - SECOND, drain_seen=False) > 0.25
    assert noise.update(now_us + WINDOW_US + SECOND, drain_seen=False) == 0.1


@pytest.mark.parametrize("load", [OfferedLoad.BELOW_CAPACITY, OfferedLoad.AT_CAPACITY])
def test_with_a_queue_nothing_is_learnt(load: OfferedLoad) -> None:
    """What was lost counts as what was delivered of its time, though there is no queue when it is missed."""
    noise, now_us = _noise(0.0, 20, SECOND)
    noise.epochs.change_load(load, now_us + SECOND)
    noise.epochs.on_delivered(now_us + SECOND, 500, queued=True)
    noise.epochs.on_delivered(now_us + SECOND + 1_000, 1, queued=False)
    noise.epochs.on_lost(now_us + SECOND + 500, 500)
    assert noise.update(now_us + SECOND, drain_seen=True) == 0.0
    noise.epochs.on_lost(now_us + SECOND + 1_500, 500)
    assert noise.update(now_us + 2 * SECOND, drain_seen=True) == 0.0
    assert noise.known


def test_what_left_together_counts_though_it_is_acknowledged_in_two() -> None:
    """The second acknowledgement of one transmission names no newer one."""
    noise = LossFloor()
    noise.epochs.change_load(OfferedLoad.BELOW_CAPACITY, 0)
    for stamp_us in range(1_000, 101_000, 1_000):
        noise.epochs.on_delivered(stamp_us, 4, queued=False)
        noise.epochs.on_delivered(None, 4, queued=False)
        noise.epochs.on_lost(stamp_us, 2)
    assert noise.update(SECOND, drain_seen=True) == pytest.approx(0.2, abs=0.02)


def test_the_first_round_of_a_search_says_nothing_alone() -> None:
    noise = LossFloor()
    noise.startup.add_round(100.0, sent=10, lost=9)
    noise.note_delivery_rate(1_000.0, SECOND)
    assert noise.update(SECOND, drain_seen=True) == 0.0
    noise.startup.add_round(200.0, sent=30, lost=3)
    noise.note_delivery_rate(150.0, 2 * SECOND)
    assert noise.update(2 * SECOND, drain_seen=True) == 0.0
    noise.note_delivery_rate(250.0, 3 * SECOND)
    assert noise.update(3 * SECOND, drain_seen=True) == pytest.approx(0.3, abs=0.1)


def test_what_is_lost_only_at_capacity_is_no_noise() -> None:
    noise, now_us = LossFloor(), 0
    for _ in range(20):
        for load, lost in ((OfferedLoad.BELOW_CAPACITY, 0), (OfferedLoad.AT_CAPACITY, 20)):
            now_us += SECOND
            noise.epochs.change_load(load, now_us)
            noise.epochs.on_delivered(now_us, 100 - lost, queued=False)
            noise.epochs.on_lost(now_us, lost)
    assert noise.update(now_us + SECOND, drain_seen=True) < 0.02


def test_a_little_that_was_seen_below_leaves_room_for_doubt() -> None:
    """Five of 240 were lost below capacity: a path that loses 3.5 per cent may have been lucky."""
    noise = LossFloor()
    noise.epochs.change_load(OfferedLoad.BELOW_CAPACITY, 0)
    noise.epochs.on_delivered(0, 235, queued=False)
    noise.epochs.on_lost(0, 5)
    noise.update(SECOND, drain_seen=True)
    assert noise.estimate < 0.02
    assert not noise.excessive(35, 1_000, tolerance=0.005)
    assert noise.excessive(45, 1_000, tolerance=0.005)


def test_bursts_are_told_from_a_rate_that_changed_once() -> None:
    bursty, changed = LossFloor(), LossFloor()
    for at in range(110):
        bursty.scatter.add(30 if at % 6 == 0 else 0, 100)
        changed.scatter.add(0 if at < 100 else 8 + at % 3, 100)
    assert bursty.scatter.factor > 8
    assert changed.scatter.factor < 2


def test_a_path_of_microseconds_costs_no_memory() -> None:
    noise, now_us = LossFloor(), 0
    for _ in range(20_000):
        for load in (OfferedLoad.BELOW_CAPACITY, OfferedLoad.AT_CAPACITY, OfferedLoad.ABOVE_CAPACITY):
            now_us += 500
            noise.epochs.change_load(load, now_us)
        noise.update(now_us, drain_seen=True)
    assert len(noise.epochs) <= 4 * 25


@pytest.mark.parametrize(("rtt_us", "wait_us"), [(20_000.0, 300_000), (200_000.0, 600_000)])
def test_the_first_probe_comes_soon_but_not_before_startups_queue_is_gone(
    rtt_us: float, wait_us: int
) -> None:
    probe_wait = ProbeWait(1)
    probe_wait.start(SECOND, 1_000.0, rtt_us, policed=False)
    assert not probe_wait.due(SECOND + wait_us, policed=False)
    assert probe_wait.due(SECOND + wait_us + 1, policed=False)
    probe_wait.start_probe()
    probe_wait.start(2 * SECOND, 1_000.0, rtt_us, policed=False)
    probe_wait.skip_first_wait()
    assert not probe_wait.due(4 * SECOND, policed=False)
    assert probe_wait.due(5 * SECOND, policed=False)


def test_the_first_probe_does_not_wait_when_startup_ended_for_noise() -> None:
    probe_wait = ProbeWait(1)
    probe_wait.start(SECOND, 1_000.0, 20_000.0, policed=False)
    probe_wait.skip_first_wait()
    assert probe_wait.due(SECOND + 1, policed=False)


@pytest.mark.parametrize(("bdp", "rounds"), [(4.0, 25), (10.0, 10), (40.0, 40), (1e4, 63)])
def test_a_cruise_is_as_long_as_renos_or_as_its_losses_take_to_be_judged(bdp: float, rounds: int) -> None:
    probe_wait = ProbeWait(1)
    probe_wait.start_probe()
    probe_wait.start(0, bdp, 1_000.0, policed=False)
    gone = 0
    while not probe_wait.due(1, policed=False):
        probe_wait.end_round()
        gone += 1
    assert rounds - 1 <= gone <= rounds


def _ack(now_us: int, acked: int) -> Ack:
    return Ack(now_us, acked, 0, 0, 0, None, None, 0, 0.0, 0)


def test_a_stall_is_no_aggregation() -> None:
    """Half a second's acknowledgements in one lump allow for ten milliseconds and a round trip of them."""
    aggregation, rate, rtt_us = AckAggregation(), 1_000.0, 20_000
    aggregation.update(_ack(0, 1), rate, 1e6, 0, rtt_us)
    aggregation.update(_ack(1_000, 500), rate, 1e6, 1, rtt_us)
    assert aggregation.extra_acked == rate * (MAX_AGGREGATION_US + rtt_us) / 1e6


def test_a_queue_of_our_own_refutes_the_bandwidth() -> None:
    """Emptying our share of it brought the round-trip time down: we had sent more than the path delivers."""
    rtt, now_us = _fed(60, 70, 60, *[200] * 10)
    assert _end_probe(rtt, 61_000, now_us + 200_000, losing=False)
    assert rtt.us == 60_000
