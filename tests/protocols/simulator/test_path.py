"""The simulator against arithmetic: counts and times of datagrams on paths of known properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from iperfpy.protocols.simulator import Bursts, Change, Path, Silent, SimulatedFlow, Simulation, bdp_bytes
from tests.protocols.simulator.dummy import Catcher, Emitter

SIZE = 972  # 1,000 bytes on the path
SHORT = 72  # where the size makes no difference: copies of many short datagrams take less time


def run(
    path: Path, emitter: Emitter, seconds: float, seed: int = 1, coalesce_us: float = 0.0
) -> tuple[SimulatedFlow, Catcher]:
    simulation = Simulation(seed, coalesce_us)
    catcher = Catcher()
    flow = simulation.flow(emitter, catcher, simulation.link(path), simulation.link(Path()), Silent())
    simulation.run(int(seconds * 1e6))
    return flow, catcher


def test_rate_and_propagation_add_up() -> None:
    flow, catcher = run(Path(rate_bits_per_s=8e6, delay_us=20_000), Emitter(SIZE, 5_000, total=3), 1.0)
    assert catcher.times_us == [21_000, 26_000, 31_000]
    assert catcher.numbers == [0, 1, 2]
    assert flow.forward.truth.mean_queue_us == 0.0


def test_a_burst_queues_for_its_service_times() -> None:
    flow, catcher = run(Path(rate_bits_per_s=8e6), Emitter(SIZE, 1_000_000, burst=5, total=5), 0.5)
    assert catcher.times_us == [1_000, 2_000, 3_000, 4_000, 5_000]
    assert flow.forward.truth.mean_queue_us == pytest.approx(2_000.0)
    assert flow.forward.truth.longest_us == pytest.approx(4_000.0)


def test_an_overloaded_link_delivers_its_rate_and_drops_the_rest() -> None:
    path = Path(rate_bits_per_s=8e6, buffer_bytes=20_000)
    flow, catcher = run(path, Emitter(SIZE, 500), 4.0)
    truth = flow.forward.truth
    assert len(catcher.numbers) == pytest.approx(4_000, abs=2)
    assert truth.overflowed == pytest.approx(4_000 - 20, abs=3)
    assert truth.longest_us == pytest.approx(19_000, abs=1_000)
    assert truth.sent == truth.delivered + truth.dropped + truth.on_the_way


def test_an_idle_link_accepts_a_datagram_larger_than_its_buffer() -> None:
    flow, _ = run(Path(rate_bits_per_s=8e6, buffer_bytes=10), Emitter(SIZE, 2_000, burst=2), 1.0)
    assert flow.forward.truth.overflowed == flow.forward.truth.sent / 2


@pytest.mark.parametrize("loss", [0.001, 0.05, 0.4])
def test_random_loss_is_independent_and_has_its_share(loss: float) -> None:
    flow, catcher = run(Path(loss=loss), Emitter(SHORT, 1_000, burst=100), 2.0)
    sent = flow.forward.truth.sent
    assert flow.forward.truth.lost == pytest.approx(loss * sent, abs=5 * (loss * sent) ** 0.5)
    lost = np.setdiff1d(np.arange(sent), catcher.numbers)
    adjacent = np.count_nonzero(np.diff(lost) == 1) / max(1, len(lost) - 1)
    assert adjacent == pytest.approx(loss, abs=0.02)


def test_loss_behind_the_queue_costs_capacity_and_loss_ahead_of_it_does_not() -> None:
    behind = Path(rate_bits_per_s=8e6, buffer_bytes=20_000, loss=0.25)
    _, after = run(behind, Emitter(SIZE, 1_000, burst=2), 4.0)
    _, before = run(behind.with_(loss_before=True), Emitter(SIZE, 1_000, burst=2), 4.0)
    assert len(after.numbers) == pytest.approx(3_000, rel=0.04)
    assert len(before.numbers) == pytest.approx(4_000, rel=0.01)


def test_loss_bursts_have_their_average_share_and_length() -> None:
    bursts = Bursts.averaging(0.05, 10.0)
    assert bursts.average == pytest.approx(0.05)
    flow, catcher = run(Path(bursts=bursts), Emitter(SHORT, 1_000, burst=100), 4.0)
    sent = flow.forward.truth.sent
    lost = np.setdiff1d(np.arange(sent), catcher.numbers)
    runs = np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1)
    assert len(lost) / sent == pytest.approx(0.05, rel=0.1)
    assert np.mean([len(r) for r in runs]) == pytest.approx(10.0, rel=0.1)


def test_a_policer_passes_its_bucket_and_then_its_rate() -> None:
    path = Path(police_bits_per_s=8e6, bucket_bytes=50_000)
    flow, catcher = run(path, Emitter(SIZE, 500), 2.0)
    assert len(catcher.numbers) == pytest.approx(2_000 + 50, abs=2)
    assert catcher.numbers[:90] == list(range(90))  # 50 in the bucket, one more per millisecond
    assert flow.forward.truth.queued == 0


def test_duplicates_and_corruption_are_counted() -> None:
    flow, catcher = run(
        Path(duplicate=0.1, corrupt=0.1, delay_us=10), Emitter(SIZE, 1_000, burst=10, total=9_000), 1.0
    )
    truth = flow.forward.truth
    assert len(catcher.numbers) == truth.delivered == truth.sent + truth.duplicated
    assert truth.duplicated == pytest.approx(0.1 * truth.sent, rel=0.15)
    assert catcher.altered == pytest.approx(truth.corrupted, rel=0.05)  # the number itself may be hit


def test_jitter_keeps_the_order_unless_jitter_reorders() -> None:
    path = Path(delay_us=10_000, jitter_us=5_000)
    _, ordered = run(path, Emitter(SIZE, 500, total=2_000), 2.0)
    _, mixed = run(path.with_(jitter_reorders=True), Emitter(SIZE, 500, total=2_000), 2.0)
    assert ordered.numbers == list(range(2_000))
    assert sorted(mixed.numbers) == ordered.numbers != mixed.numbers
    delays = np.array(mixed.times_us) - 500 * np.array(mixed.numbers)
    assert (delays.min(), delays.max()) == (pytest.approx(10_000, abs=20), pytest.approx(15_000, abs=20))
    assert delays.mean() == pytest.approx(12_500, rel=0.02)


def test_a_share_of_the_datagrams_is_reordered() -> None:
    path = Path(delay_us=10_000, reorder=0.05, reorder_us=8_000)
    flow, catcher = run(path, Emitter(SHORT, 1_000, burst=5, total=10_000), 3.0)
    late = np.array(catcher.times_us) - 1_000 * (np.array(catcher.numbers) // 5) > 10_001
    assert late.sum() == pytest.approx(500, rel=0.15)
    assert flow.forward.truth.reordered == pytest.approx(late.sum(), abs=3)
    assert sorted(catcher.numbers) == list(range(10_000))
    assert catcher.times_us == sorted(catcher.times_us)


def test_a_rate_step_moves_the_departures_of_queued_datagrams() -> None:
    path = Path(rate_bits_per_s=8e6, changes=(Change(10_500, {"rate_bits_per_s": 4e6}),))
    _, catcher = run(path, Emitter(SIZE, 1_000_000, burst=20, total=20), 0.9)
    assert catcher.times_us[:11] == [*range(1_000, 11_000, 1_000), 11_500]
    assert np.diff(catcher.times_us)[11:].tolist() == [2_000] * 8


RISE = (Change(100_500, {"rate_bits_per_s": 80e6}),)  # from 10 ms per datagram to 100 us


@pytest.mark.parametrize("fields", [{}, {"delay_us": 3_000, "jitter_us": 50}], ids=["plain", "jitter"])
def test_a_rate_rise_holds_back_nothing_that_is_sent_after_it(fields: dict[str, float]) -> None:
    path = Path(rate_bits_per_s=0.8e6, changes=RISE).with_(**fields)
    _, catcher = run(path, Emitter(SIZE, 200_000, burst=50, total=100), 0.9)
    latest_us = sum(fields.values())
    assert catcher.numbers == list(range(100))
    # The first 10 take 10 ms each. The one in service has 95 % of its time left, and takes 1 % of that.
    assert max(catcher.times_us[:50]) <= 100_500 + 95 + 39 * 100 + latest_us + 1
    assert max(catcher.times_us[50:]) <= 200_000 + 50 * 100 + latest_us + 1


@pytest.mark.parametrize(
    "fields", [{"jitter_us": 50, "jitter_reorders": True}, {"reorder": 0.5, "reorder_us": 50}]
)
def test_a_rate_rise_moves_datagrams_that_keep_no_order(fields: dict[str, float]) -> None:
    path = Path(rate_bits_per_s=0.8e6, changes=RISE).with_(**fields)
    flow, catcher = run(path, Emitter(SIZE, 1_000_000, burst=50, total=50), 0.9)
    assert sorted(catcher.numbers) == list(range(50))
    assert flow.forward.truth.reordered > 0
    assert max(catcher.times_us) <= 100_500 + 95 + 39 * 100 + 50 + 1


@pytest.mark.parametrize("factor", [0.25, 8.0])
def test_waiting_times_are_those_of_the_service_after_a_rate_change(factor: float) -> None:
    changed_us, rate = 10_500, 8e6
    path = Path(rate_bits_per_s=rate, changes=(Change(changed_us, {"rate_bits_per_s": rate * factor}),))
    flow, catcher = run(path, Emitter(SIZE, 1_000_000, burst=20, total=20), 0.9)
    # A datagram waits until the one before it has left.
    waits = np.array([0, *catcher.times_us[:-1]])
    truth = flow.forward.truth
    assert truth.mean_queue_us == pytest.approx(waits.mean(), abs=1)
    assert truth.longest_us == pytest.approx(waits.max(), abs=1)


def test_an_outage_drops_every_datagram_until_it_ends() -> None:
    path = Path(delay_us=1, changes=(Change(300_000, {"down": True}), Change(500_000, {"down": False})))
    flow, catcher = run(path, Emitter(SIZE, 1_000), 1.0)
    assert flow.forward.truth.outage == 200
    assert set(range(1_000)) - set(catcher.numbers) >= set(range(300, 500))


def test_a_falling_delay_keeps_the_order() -> None:
    path = Path(delay_us=50_000, changes=(Change(100_000, {"delay_us": 10_000}),))
    _, catcher = run(path, Emitter(SIZE, 10_000, total=30), 1.0)
    assert catcher.numbers == list(range(30))
    assert catcher.times_us[9] == 140_000
    assert catcher.times_us[20] == 210_000


def test_arrivals_faster_than_interrupts_are_grouped() -> None:
    _, slow = run(Path(rate_bits_per_s=8e6), Emitter(SIZE, 2_000), 1.0, coalesce_us=500)
    _, fast = run(Path(rate_bits_per_s=800e6), Emitter(SIZE, 10.0), 0.1, coalesce_us=500)
    assert set(slow.batches) == {1}
    assert np.mean(fast.batches) == pytest.approx(50, rel=0.02)


def test_flows_share_a_bottleneck_in_order_of_arrival() -> None:
    simulation = Simulation(1, 0.0)
    link = simulation.link(Path(rate_bits_per_s=8e6, buffer_bytes=50_000))
    back = simulation.link(Path())
    catchers = [Catcher(), Catcher()]
    flows = [
        simulation.flow(Emitter(SIZE, gap), catcher, link, back, Silent(), detour_us=detour)
        for gap, catcher, detour in ((1_000, catchers[0], 0.0), (1_000, catchers[1], 30_000.0))
    ]
    simulation.run(2_500_000)
    shares = [flow.forward.truth.delivered for flow in flows]
    assert sum(shares) == pytest.approx(2_500, rel=0.01)
    assert catchers[1].times_us[0] - catchers[0].times_us[0] == pytest.approx(30_000, abs=1_001)


def test_the_return_direction_carries_answers_and_loses_its_share() -> None:
    simulation = Simulation(1, 0.0)
    emitter, path = Emitter(SIZE, 1_000, total=100), Path(delay_us=5_000, loss=0.1)
    flow = simulation.flow(emitter, Catcher(echo=24), simulation.link(path), simulation.link(path), Silent())
    simulation.run(1_000_000)
    assert (
        emitter.arrivals
        == flow.backward.truth.delivered
        == flow.backward.truth.sent - flow.backward.truth.lost
    )


def test_equal_seeds_give_equal_runs() -> None:
    path = Path(
        rate_bits_per_s=8e6,
        buffer_bytes=5_000,
        loss=0.1,
        jitter_us=900,
        reorder=0.1,
        reorder_us=5_000,
        duplicate=0.1,
    )
    runs = [run(path, Emitter(SIZE, 1_500, burst=2), 1.0, seed)[1] for seed in (7, 7, 8)]
    assert (runs[0].numbers, runs[0].times_us) == (runs[1].numbers, runs[1].times_us)
    assert runs[0].numbers != runs[2].numbers


def test_every_lost_datagram_is_counted_under_a_cause() -> None:
    for seed, path in itertools.product(
        range(3),
        (
            Path(
                rate_bits_per_s=5e6,
                buffer_bytes=9_000,
                loss=0.2,
                duplicate=0.05,
                reorder=0.3,
                reorder_us=9_000,
            ),
            Path(police_bits_per_s=5e6, bucket_bytes=9_000, bursts=Bursts.averaging(0.1, 5)),
            Path(rate_bits_per_s=5e6, changes=(Change(500_000, {"rate_bits_per_s": 50e6}),)),
        ),
    ):
        flow, catcher = run(path, Emitter(SIZE, 1_200, burst=3, total=900), 30.0, seed, coalesce_us=500)
        truth = flow.forward.truth
        assert truth.on_the_way == 0
        assert truth.delivered == len(catcher.numbers)
        assert len(set(catcher.numbers)) + truth.dropped == truth.sent


def test_an_endpoint_with_an_expired_deadline_that_does_nothing_is_named() -> None:
    class Spinner(Catcher):
        def deadline_us(self) -> int | None:
            return 0

    simulation = Simulation(1)
    link = simulation.link(Path())
    simulation.flow(Spinner(), Catcher(), link, link, Silent())
    with pytest.raises(RuntimeError, match="Spinner keeps asking to be woken"):
        simulation.run(1_000_000)


def test_the_bandwidth_delay_product_is_in_bytes() -> None:
    assert bdp_bytes(20e6, 170_000) == 425_000
    assert bdp_bytes(20e6, 170_000, 0.1) == 42_500
