"""Time-ordered recovery (RFC 8985) by its rules, one at a time."""

from __future__ import annotations

import pytest

from iperfpy.protocols.kcp.loss_recovery.recovery_timer import LARGEST_TIMEOUT_US, SMALLEST_TIMEOUT_US
from iperfpy.protocols.simulator.application import Bulk
from iperfpy.protocols.simulator.path import Path, SecondWay
from iperfpy.protocols.simulator.simulation import Simulation
from tests.protocols.kcp.ends import Fixed, Half, ack, batch
from tests.protocols.kcp.exchange import Exchange, Stream, Way
from tests.studies.paths.watched import bbr_engine

RTT_US = 40_000
START_US = 1_000_000
REORDERING_US = RTT_US // 8


def _spaced(count: int, control: Fixed | None = None) -> Half:
    """Segments 0..count-1 sent one by one, a millisecond apart."""
    half = Half(control=control)
    for number in range(count):
        assert half.send(1, START_US + number * 1_000) == [number]
    return half


def _back(number: int) -> int:
    """The arrival time of the ACK for a segment of `_spaced`."""
    return START_US + number * 1_000 + RTT_US


def _settled(rounds: int = 40, rtt_us: int = RTT_US) -> tuple[Half, int]:
    """After `rounds` segments acknowledged each after exactly one RTT: (half, now)."""
    half, now_us = Half(), START_US
    for number in range(rounds):
        half.send(1, now_us)
        now_us += rtt_us
        half.acked(now_us, number, una=number + 1)
    assert half.engine.rtt.srtt_us == rtt_us
    return half, now_us


# ------------------------------------------------------------------------------ losses


def test_a_loss_is_found_by_time_not_by_counting() -> None:
    """Segment 3 is given up once something sent more than min_rtt/8 later has arrived; not before."""
    half = _spaced(30)
    for number in (0, 1, 2, *range(4, 8)):
        half.acked(_back(number), number, una=min(number + 1, 3))
        assert half.transmit(_back(number)) == []
    now_us = _back(8)
    half.acked(now_us, 8, una=3)
    assert half.transmit(now_us) == [3]
    assert (half.counts.fast, half.counts.early, half.counts.lost) == (1, 0, 0)


def test_the_reordering_window_may_also_run_out_by_the_clock() -> None:
    half = _spaced(6)
    for number in (0, 1, 2, 4, 5):
        half.acked(_back(number), number, una=min(number + 1, 3))
        assert half.transmit(_back(number)) == []
    due_us = _back(3) + REORDERING_US
    assert half.wait(due_us + 1) == [(due_us, [3])]
    assert half.counts.fast == 1


def test_the_deadline_follows_missing_segments_only() -> None:
    """Segments 3 and 20 are missing, and the ACKs of all others have come."""
    half = _spaced(26)
    for number in (*range(3), *range(4, 7)):
        half.acked(_back(number), number, una=min(number + 1, 3))
    assert half.engine.deadline_us() == _back(3) + REORDERING_US
    for number in (*range(7, 20), *range(21, 25)):
        half.acked(_back(number), number, una=3)
    assert half.transmit(_back(24)) == [3]
    assert half.engine.deadline_us() == _back(20) + REORDERING_US


def test_a_lost_retransmission_is_found_the_same_way() -> None:
    """However often, without a timeout: later transmissions show that each retransmission is lost."""
    half, now_us = _settled()
    lost = 40
    half.send(1, now_us)
    for number in range(lost + 1, lost + 41):
        now_us += 5_000
        sent = half.send(1, now_us)
        if number - lost > 8:
            half.acked(now_us, number - 8, una=lost)
            sent += half.transmit(now_us)
        assert number in sent
    again = len(half.stamps[lost]) - 1
    assert again >= 3
    assert half.counts.fast == again
    assert half.counts.lost == half.counts.early == 0
    half.acked(now_us + 1, lost, una=lost + 41)
    assert half.recovery.in_flight == 0
    assert half.engine.sending.una == half.engine.sending.end


def _repeatedly_lost(times: int, window: int) -> tuple[Half, int]:
    """Return a sender that has transmitted segment 0 `times` times, the last time now, and lost all of these.

    All later segments, up to a window of 32, have arrived.
    """
    half, now_us = Half(send_window=window), START_US
    half.send(1, now_us)
    for time in range(1, times):
        now_us += 2 * REORDERING_US
        sent = half.engine.sending.nxt
        half.send(31 - sent if time == times - 1 else 4, now_us)
        now_us += RTT_US
        half.acked(now_us, *range(sent, half.engine.sending.nxt), una=0)
        assert half.transmit(now_us) == [0]
    assert len(half.stamps[0]) == times
    return half, now_us


def test_the_hole_that_holds_a_full_window_is_sent_again_every_half_round_trip() -> None:
    """Nothing new could show that it is lost. All copies count as one in flight. Once it arrives, no further
    loss is counted, and one copy was spurious."""
    half, now_us = _repeatedly_lost(4, window=32)
    assert half.send(1, now_us) == [31]
    assert half.wait(now_us + RTT_US - 1) == [(now_us + RTT_US // 2, [0])]
    half.acked(now_us + RTT_US, 31, una=0)
    assert half.transmit(now_us + RTT_US) == [0]
    assert half.recovery.in_flight == 1
    found = half.engine.delivery.lost
    half.acked(now_us + 3 * RTT_US // 2 - 1, 0, una=32, copy=-2)
    assert (half.counts.fast, half.counts.early, half.counts.lost) == (3, 2, 0)
    assert (half.recovery.spurious, half.engine.delivery.lost, half.recovery.in_flight) == (1, found, 0)
    assert half.engine.deadline_us() is None


def test_a_hole_long_overdue_is_resent_after_the_data_that_fills_the_window() -> None:
    half, now_us = _repeatedly_lost(4, window=32)
    now_us += RTT_US
    assert half.send(1, now_us) == [31]
    assert half.wait(now_us + 10) == [(now_us + 1, [0])]


@pytest.mark.parametrize(("times", "window"), [(3, 32), (4, 33)], ids=["lost twice", "a window not full"])
def test_no_other_hole_is_sent_before_it_is_found_lost(times: int, window: int) -> None:
    half, now_us = _repeatedly_lost(times, window)
    half.send(1, now_us)
    assert half.wait(now_us + RTT_US) == []


def test_without_any_answer_the_hole_is_left_to_the_timer() -> None:
    half, now_us = _repeatedly_lost(4, window=32)
    half.send(1, now_us)
    left = half.wait(now_us + 10_000_000)
    timeouts = [at_us for at_us, numbers in left if numbers == [0, 31]]
    assert len(timeouts) > 5
    assert [at_us for at_us, _ in left if at_us > timeouts[0]] == timeouts[1:]


@pytest.mark.parametrize(
    ("lost", "runs"),
    [({3}, 1), ({3, 4, 5}, 1), ({3, 5, 7}, 3), ({3, 4, 6, 7, 8, 20}, 3), ({3, 4, 5, 6, 7, 8, 9, 12}, 2)],
)
@pytest.mark.parametrize("together", [1, 4])
def test_losses_are_reported_as_runs_of_consecutive_transmissions(
    lost: set[int], runs: int, together: int
) -> None:
    """The count is the same if they left four at a time, and does not depend on how the ACKs come in."""
    control = Fixed()
    half = Half(control=control)
    for number in range(0, 40, together):
        half.send(together, START_US + number * 1_000)
    una = min(lost)
    for number in sorted(set(range(40)) - lost):
        half.acked(_back(number - number % together), number, una=min(number + 1, una))
    assert control.acks[-1].lost == len(lost)
    assert control.acks[-1].lost_runs == runs


@pytest.mark.parametrize(
    ("lost", "heads", "tails"),
    [
        ({4, 8, 9, 12, 13, 14}, 3, 0),
        ({7, 10, 11, 15, 17, 19}, 0, 4),  # 17: neither end of its burst
        ({4, 5, 6, 7, 8, 11}, 0, 0),  # both ends
        ({7, 8, 12, 15}, 1, 1),
    ],
)
def test_bursts_that_lost_one_of_their_ends_are_counted(lost: set[int], heads: int, tails: int) -> None:
    """Four segments leave at a time, the second two of them by another call, as after a retransmission."""
    control = Fixed()
    half = Half(control=control)
    for number in range(0, 40, 2):
        half.send(2, START_US + (number - number % 4) * 1_000)
    una = min(lost)
    for number in sorted(set(range(40)) - lost - {30}):
        half.acked(_back(number - number % 4), number, una=min(number + 1, una))
    assert sum(loss.heads for loss in control.losses) == heads
    assert sum(loss.tails for loss in control.losses) == tails


@pytest.mark.parametrize("seed", range(3))
def test_thirty_percent_loss_needs_no_timeout_while_data_flows(seed: int) -> None:
    stream = Stream(1_500_000, seed)
    left = Half(control=Fixed(256), mtu=1_400, send_window=4_096).engine
    right = Half(receive_window=4_096, mtu=1_400).engine
    right.receiving._deliver = stream.deliver
    way = Way(delay_us=20_000, loss=0.3)
    exchange = Exchange(left, right, way, Way(delay_us=20_000), (stream, Stream(0, 0)), seed=seed)
    while left.sending.nxt < left.sending.end or stream.written < stream.total:
        exchange._step()
    assert left.counts.lost == 0
    assert left.counts.fast > 300
    exchange.run()
    assert stream.intact


# ------------------------------------------------------------------------- the reordering window


def test_the_reordering_window_grows_to_the_displacement_and_shrinks_again() -> None:
    half, now_us = _settled()
    assert half.recovery.reordering.width_us == REORDERING_US
    start_us = now_us
    half.send(1, start_us)
    half.send(1, start_us + 18_000)
    # The younger overtakes the elder by 18 ms, within srtt.
    half.acked(start_us + 18_000 + RTT_US, 41, una=40)
    half.acked(start_us + 18_000 + RTT_US, 40, una=42)
    assert half.recovery.reordering.width_us == pytest.approx(18_000 * 1.1, abs=2)
    now_us = start_us + 60_000
    seen = []
    for number in range(42, 42 + 120):
        half.send(1, now_us)
        now_us += RTT_US
        half.acked(now_us, number, una=number + 1)
        half.transmit(now_us)
        seen.append(half.recovery.reordering.width_us)
    assert seen[10] == pytest.approx(19_800, abs=2)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == REORDERING_US


def test_displacement_within_the_window_is_no_loss() -> None:
    half, now_us = _settled()
    start_us = now_us
    half.send(1, start_us)
    half.send(1, start_us + 18_000)
    half.acked(start_us + 18_000 + RTT_US, 41, una=40)
    half.acked(start_us + 18_001 + RTT_US, 40, una=42)
    now_us = start_us + 100_000
    half.send(1, now_us)
    half.send(1, now_us + 18_000)
    half.acked(now_us + 18_000 + RTT_US, 43, una=42)
    assert half.transmit(now_us + 18_000 + RTT_US) == []
    half.acked(now_us + 18_500 + RTT_US, 42, una=44)
    assert half.counts.fast == 0


def test_a_delay_longer_than_the_time_between_two_transmissions_counts_whole() -> None:
    """Two segments leave 5 ms apart, and the older one takes a way that is 14 ms longer: no transmission
    left in the 9 ms between, and none can show them."""
    half, now_us = _settled()
    half.send(1, now_us)
    half.send(1, now_us + 5_000)
    half.acked(now_us + 5_000 + RTT_US, 41, una=40)
    half.acked(now_us + 14_000 + RTT_US, 40, una=42)
    assert half.recovery.reordering.width_us == pytest.approx(14_000 * 1.1, abs=2)


def test_a_transmission_that_its_own_copy_overtook_widens_the_window() -> None:
    half, now_us = _settled()
    half.send(1, now_us)
    half.send(1, now_us + 5_000)
    half.acked(now_us + 5_000 + RTT_US, 41, una=40)
    lost_us = now_us + RTT_US + REORDERING_US
    assert half.transmit(lost_us) == [40]
    half.send(1, lost_us)
    half.acked(lost_us + RTT_US, 40, una=42, copy=1)
    assert half.recovery.reordering.width_us == REORDERING_US
    half.acked(now_us + 90_000, 40, una=42, copy=0)
    assert half.recovery.spurious == 1
    assert half.recovery.reordering.width_us == pytest.approx(50_000 * 1.1, abs=2)


def test_two_ways_of_different_length_are_learned_at_any_rate() -> None:
    """Segments leave as far apart as a third of the difference. Copies that overtake their originals would
    keep the window as it is, and every second segment would be sent twice."""
    there = Path(rate_bits_per_s=2.4e6, buffer_bytes=20_000, delay_us=2_300, second_way=SecondWay(14_000.0))
    sender, receiver = bbr_engine(1), bbr_engine(1)
    simulation = Simulation(1)
    ways = simulation.link(there), simulation.link(Path(delay_us=2_300))
    simulation.flow(sender, receiver, *ways, Bulk(sender))
    simulation.run(12_000_000)
    assert receiver.receiving.bytes > 1_000_000
    assert receiver.receiving.duplicates < 0.02 * sender.counts.segments_sent


@pytest.mark.parametrize(
    ("displacement_us", "width_us"), [(60_000, 66_000), (30_000_000, 11 * LARGEST_TIMEOUT_US // 10)]
)
def test_the_reordering_window_may_exceed_srtt_and_ends_at_a_second(
    displacement_us: int, width_us: int
) -> None:
    """The longer of two ways exceeds any mean. A garbled echo, or seconds of reordering, must not leave
    nothing but timeouts, and are forgotten."""
    half, now_us = _settled()
    half.send(2, now_us)
    now_us += RTT_US
    half.acked(now_us, 41, una=40)
    echo_us = (now_us - RTT_US - displacement_us) & 0xFFFF_FFFF
    half.engine.receive(batch(ack(40, echo_us, una=42)), now_us)
    assert half.recovery.reordering.width_us == pytest.approx(width_us, rel=0.01)
    for number in range(42, 42 + 300):
        half.send(1, now_us)
        now_us += RTT_US
        half.acked(now_us, number, una=number + 1)
        half.transmit(now_us)
    assert half.recovery.reordering.width_us == REORDERING_US


# ------------------------------------------------------------------------------- tail and outage


@pytest.mark.parametrize("rtt_us", [2_000, 40_000, 170_000, 600_000])
def test_a_lost_tail_costs_a_probe_not_a_timeout(rtt_us: int) -> None:
    """On a steady path srtt + 4 rttvar is less than two round trips; the probe comes first all the same."""
    half, now_us = _settled(rtt_us=rtt_us)
    half.send(3, now_us)
    half.acked(now_us + rtt_us, 40, 41, una=42)
    in_flight = half.recovery.in_flight
    timeout_us = max(SMALLEST_TIMEOUT_US, rtt_us + 1_000)
    expected_us = min(max(2 * rtt_us, 10_000), timeout_us)
    ((probed_us, numbers),) = half.wait(now_us + rtt_us + int(1.5 * expected_us))
    assert numbers == [42]
    assert probed_us - now_us - rtt_us == pytest.approx(expected_us, rel=0.02)
    assert half.recovery.in_flight == in_flight == 1
    half.acked(probed_us + rtt_us, 42, una=43)
    assert (half.counts.early, half.counts.lost, half.counts.fast) == (1, 0, 0)
    assert half.recovery.in_flight == 0
    assert half.engine.deadline_us() is None


def test_a_probe_that_was_not_needed_is_spurious_and_no_loss() -> None:
    half, now_us = _settled()
    half.send(1, now_us)
    half.wait(now_us + 2 * RTT_US)
    assert half.counts.early == 1
    half.acked(now_us + 3 * RTT_US, 40, una=40, copy=0)
    assert half.recovery.spurious == 1
    assert half.recovery.spurious_losses == 0
    assert half.engine.delivery.lost == 0
    assert half.recovery.in_flight == 0


def test_new_data_serves_as_the_probe() -> None:
    """RFC 8985, 7.3; one segment more than the congestion window allows."""
    half = Half(control=Fixed(4, burst=8))
    for number in range(20):
        half.send(1, START_US + number * RTT_US)
        half.acked(START_US + (number + 1) * RTT_US, number, una=number + 1)
    now_us = START_US + 20 * RTT_US
    half.write(6, now_us)
    assert half.transmit(now_us) == [20, 21, 22, 23]
    ((_, numbers),) = half.wait(now_us + 2 * RTT_US)
    assert numbers == [24]
    assert half.counts.early == 0
    assert half.recovery.in_flight == 5


def test_before_the_first_round_trip_the_probe_comes_after_200_ms() -> None:
    """All of the first ten may be lost, and a timeout would take a second. The answer to the probe proves
    that the ten are lost."""
    half = Half(control=Fixed(10, burst=16))
    half.write(40, START_US)
    assert half.transmit(START_US) == list(range(10))
    ((at_us, numbers),) = half.wait(START_US + 900_000)
    assert (at_us, numbers) == (START_US + 200_000, [10])
    half.acked(at_us + RTT_US, 10, una=0)
    assert half.transmit(at_us + RTT_US) == list(range(10))
    assert (half.counts.fast, half.counts.early, half.counts.lost) == (10, 0, 0)


def test_a_probe_takes_over_a_segment_already_given_up() -> None:
    """The congestion window keeps the resend back; the probe is that resend, and it is not sent twice."""
    control = Fixed(64)
    half = _spaced(20, control=control)
    for number in range(1, 19):
        half.acked(_back(number), number, una=0)
    control.window = 1
    now_us = _back(18)
    assert half.transmit(now_us) == []  # 19 is in flight and fills the window
    assert half.engine.sending.state.lost[0]
    left = half.wait(now_us + 2 * RTT_US + 1_000)
    assert [numbers for _, numbers in left] == [[19]]
    control.window = 64
    assert half.transmit(now_us + 2 * RTT_US + 1_001) == [0]


def test_an_outage_backs_off_to_a_second_and_no_further() -> None:
    control = Fixed(1 << 20)
    half = _spaced(10, control=control)
    for number in range(5):
        half.acked(_back(number), number, una=number + 1)
    half.wait(START_US + 10_000_000)
    gaps = [later - earlier for earlier, later in zip(control.timeouts, control.timeouts[1:], strict=False)]
    assert len(gaps) > 5
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(2 * SMALLEST_TIMEOUT_US, rel=0.01)
    assert gaps[-1] == LARGEST_TIMEOUT_US
    assert half.counts.lost >= 5 * len(control.timeouts)
    assert half.counts.early == 1


def test_data_flows_again_within_the_longest_timeout_after_an_outage() -> None:
    way = Way(delay_us=RTT_US // 2, outages=((500_000, 8_000_000),))
    stream = Stream(400_000, 1, chunk=1_000, gap_us=4_000)
    control = Fixed(64)
    half = Half(control=control, mtu=1_400)
    left = half.engine
    right = Half(mtu=1_400).engine
    right.receiving._deliver = stream.deliver
    exchange = Exchange(left, right, way, way, (stream, Stream(0, 0)), seed=1)
    exchange.run(8_000_000 + LARGEST_TIMEOUT_US + 2 * RTT_US + 1_600_000)
    assert stream.intact
    assert control.timeouts
    # The data after the outage is not backed off any more.
    assert half.recovery.timer.backoff == 0


def test_a_timeout_spares_recent_transmissions() -> None:
    """RFC 8985, 6.3: only the first segment is lost, and those older than a round trip and the window."""
    half, now_us = _settled()
    half.send(2, now_us)
    half.wait(now_us + 2 * RTT_US)  # the probe
    fires_us = half.engine.deadline_us()
    assert fires_us is not None
    half.send(1, fires_us - 5_000)
    assert half.transmit(fires_us) == [40, 41]
    assert half.counts.lost == 2
    assert half.recovery.in_flight == 3


# ------------------------------------------------------------------------------------ the books


def test_an_echo_of_an_older_stamp_counts_as_spurious() -> None:
    half = _spaced(40)
    for number in range(4, 36):
        half.acked(_back(number), number, una=0)
        half.transmit(_back(number))
    assert [len(half.stamps[number]) for number in range(4)] == [2, 2, 2, 2]
    marked = half.engine.delivery.marked_lost
    now_us = START_US + 200_000
    half.acked(now_us, 0, una=0, copy=0)  # the original came late
    half.acked(now_us, 1, una=0, copy=1)  # the retransmission came
    assert half.recovery.spurious == 1
    half.acked(now_us, 1, una=0, copy=0)  # and its original too: it was not needed either
    half.acked(now_us, 0, 1, una=0, copy=0)  # said already
    half.acked(now_us, 0, una=0, copy=1)  # the retransmission that was not needed
    half.engine.receive(batch(ack(36, half.stamps[36][0], una=3)), now_us)  # 2 is covered, no echo
    assert half.recovery.spurious == half.recovery.spurious_losses == 2
    half.acked(now_us, 2, una=3, copy=0)  # una had passed it
    half.acked(now_us, 2, una=3, copy=0)
    assert half.recovery.spurious == half.recovery.spurious_losses == 3
    assert half.engine.delivery.lost == marked - 3


def test_every_resend_that_jitter_provoked_is_found_spurious() -> None:
    """Nothing is lost, so the receiver's duplicates are the truth; ACKs overtake one another too."""
    stream = Stream(1_500_000, 5)
    left = Half(control=Fixed(256), mtu=1_400).engine
    right = Half(mtu=1_400, ack_repeats=3).engine
    right.receiving._deliver = stream.deliver
    way = Way(delay_us=20_000, jitter_us=12_000)
    exchange = Exchange(left, right, way, way, (stream, Stream(0, 0)), seed=5)
    exchange.run()
    exchange.drain()
    assert right.receiving.duplicates > 5
    assert left.recovery.spurious == right.receiving.duplicates == left.counts.fast + left.counts.early


def test_a_first_transmission_is_never_spurious() -> None:
    """Not even when its echo is garbled."""
    half = _spaced(2)
    half.engine.receive(batch(ack(1, 17, una=0)), RTT_US)
    assert half.recovery.spurious == 0


def test_a_loss_that_arrives_before_its_retransmission_is_undone() -> None:
    control = Fixed(64)
    half = _spaced(30, control=control)
    control.window = 1
    for number in range(4, 30):
        half.acked(_back(number), number, una=0)
    now_us = _back(29)
    assert half.transmit(now_us) == [0]  # nothing is in flight; one may go
    assert half.engine.delivery.marked_lost == 4
    assert half.recovery.pending
    half.acked(now_us + 10, 2, una=0)
    assert half.recovery.spurious_losses == 1
    assert half.engine.delivery.lost == 3
    half.engine.receive(batch(ack(1, half.stamps[1][-1], una=30)), now_us + 20)
    assert half.recovery.in_flight == 0
    assert half.recovery.spurious == 0
    assert half.recovery.spurious_losses == 3  # 1 by its ACK, 3 by una; about 0 nothing is known
    assert half.transmit(now_us + 30) == []
    assert half.engine.deadline_us() is None
    assert max(len(stamps) for number, stamps in half.stamps.items() if number) == 1


def test_an_arrival_proves_one_transmission_not_two() -> None:
    """Given up twice, and the original arrives: one mark was wrong, the other may have been right."""
    half = _spaced(40)
    for number in range(1, 21):
        half.acked(_back(number), number, una=0)
        half.transmit(_back(number))
    assert len(half.stamps[0]) == 2
    # The retransmission of 0 is given up as well: 40 left 20 ms after it, and arrives.
    control_free_us = half.stamps[0][-1]
    half.send(1, control_free_us + 20_000)
    half.engine.receive(batch(ack(40, half.stamps[40][-1], una=0)), control_free_us + 20_000 + RTT_US)
    assert half.engine.sending.state.lost[0]
    marked = half.engine.delivery.marked_lost
    half.acked(control_free_us + 20_000 + RTT_US, 0, una=0, copy=0)
    assert half.recovery.spurious == 1
    assert half.recovery.spurious_losses == 1
    assert half.engine.delivery.marked_lost == marked


@pytest.mark.parametrize("echo", [0, 17, 39_999, 41_000, 0xFFFF_FFFF])
def test_a_stamp_that_was_never_sent_is_no_sample(echo: int) -> None:
    half = Half()
    half.send(1, 10)
    half.engine.receive(batch(ack(0, echo, una=1)), 40_000)
    assert half.engine.rtt.samples == 0
    assert half.engine.sending.una == 1


def test_the_flight_log_is_trimmed() -> None:
    half = Half()
    for number in range(2_000):
        half.send(1, number * 100)
        half.acked(number * 100 + 50, number, una=number + 1)
        half.transmit(number * 100 + 60)
    assert len(half.recovery._log.stamps) < 1_100
