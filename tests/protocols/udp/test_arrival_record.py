"""A UDP receiver's record of the path: sums by the sender's time, for every order of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.path_evidence import FlightBins, PathEvidence
from iperfpy.protocols.udp.arrival_record import MOST_SKIPPED, ArrivalRecord
from iperfpy.protocols.udp.packets import NUMBER_BITS
from iperfpy.protocols.udp.reception import Reception

START_US = 77_000_000_000
SIZE = 1_400


def _wire(first: int, count: int) -> bytes:
    return np.arange(first, first + count).astype(">u4").tobytes()


def _evidence(reception: Reception) -> tuple[PathEvidence, FlightBins]:
    evidence = reception.record.evidence(28, 5)
    assert evidence is not None
    assert evidence.flight is not None
    assert not evidence.flight.fault()
    return evidence, evidence.flight


def _paced(numbers: list[int], together: int, reorder: bool = False) -> Reception:
    """Datagrams 500 us apart with these numbers, `together` of them in each read. Transit: 3 ms."""
    reception = Reception()
    for at in range(0, len(numbers), together):
        part = np.array(numbers[at : at + together], np.int64)
        sent_us = START_US + 500 * part
        count = len(part)
        if count == 1 and not reorder:
            wire = part.astype(">u4").tobytes()
            if reception.add_run(wire, 1, 3_000.0, SIZE, int(sent_us[0])):
                continue
        reception.add(part, np.full(count, 3_000.0), SIZE * count, sent_us)
    return reception


@pytest.mark.parametrize("together", [1, 7])
def test_losses_are_counted_between_the_times_around_them(together: int) -> None:
    numbers = [number for number in range(1, 2_001) if not 500 < number <= 520 and number != 900]
    evidence, bins = _evidence(_paced(numbers, together))
    assert int(bins.sent_packets.sum()) == pytest.approx(2_000, abs=3)  # less the last bin
    missing = bins.sent_packets - bins.arrived_packets
    assert int(missing.sum()) == 21
    # Two datagrams per millisecond.
    assert set(bins.sent_packets.tolist()) <= {1, 2, 3}
    assert (np.flatnonzero(missing) // 10 * 10).tolist().count(250) == 10
    assert missing[449] + missing[450] == 1
    assert int(bins.sent_bytes.sum()) == (SIZE + 28) * int(bins.sent_packets.sum())
    assert (evidence.loss_runs, evidence.lost_in_runs) == (2, 21)
    assert bins.one_way
    assert np.nanmax(bins.delay_us) == 0
    assert evidence.extra == {"kernel_drops": 5}


def test_a_late_datagram_makes_up_for_its_loss() -> None:
    numbers = list(range(1, 1_001))
    for late in (100, 300, 301, 500):
        numbers.remove(late)
        numbers.insert(late + 7, late)
    evidence, bins = _evidence(_paced(numbers, 5, reorder=True))
    assert (bins.sent_packets == bins.arrived_packets).all()
    assert evidence.displaced_packets == 4
    assert evidence.displacement_us == pytest.approx(8 * 500, rel=0.2)
    assert (evidence.loss_runs, evidence.lost_in_runs) == (0, 0)  # a gap that is filled was no run of losses


@pytest.mark.parametrize("together", [1, 3, 40])
@pytest.mark.parametrize("seed", range(5))
def test_runs_of_losses_are_counted_beside_reordering(together: int, seed: int) -> None:
    """Bursts of losses; a seventh of the others is overtaken by up to 30 datagrams."""
    rng = np.random.default_rng(seed)
    arrived = np.ones(3_000, np.bool_)
    for first in rng.integers(2, 2_900, 40).tolist():
        arrived[first : first + int(rng.geometric(0.2))] = False
    arrived[[0, -1]] = True
    late = np.where(rng.random(3_000) < 1 / 7, rng.integers(1, 30, 3_000), 0)
    late[-1] = 0
    order = np.argsort(np.arange(3_000) + late + 0.5 * (late > 0), kind="stable")
    numbers = (order[arrived[order]] + 1).tolist()
    evidence, _ = _evidence(_paced(numbers, together))
    lost = ~arrived
    assert evidence.lost_in_runs == int(lost.sum())
    assert evidence.loss_runs == int((lost[1:] & ~lost[:-1]).sum())
    assert evidence.displaced_packets is not None
    assert evidence.displaced_packets > 0.05 * len(numbers)


def test_a_duplicate_is_neither_sent_nor_arrived_again() -> None:
    numbers = [number for number in range(1, 501) for _ in range(1 + (number % 50 == 0))]
    _, bins = _evidence(_paced(numbers, 10, reorder=True))
    assert int(bins.arrived_packets.sum()) == pytest.approx(500, abs=2)
    assert (bins.sent_packets == bins.arrived_packets).all()


def test_a_batch_of_the_kernel_counts_as_its_datagrams() -> None:
    reception = Reception()
    for batch in range(100):
        if batch != 40:
            sent_us = START_US + 10_000 * batch
            assert reception.add_run(_wire(1 + 64 * batch, 64), 64, 3_000.0 + batch, 64 * SIZE, sent_us)
    evidence, bins = _evidence(reception)
    assert int(bins.sent_packets.sum()) == 64 * 99
    assert int((bins.sent_packets - bins.arrived_packets).sum()) == 64
    # Spread over the 20 ms between the batches around them.
    assert np.count_nonzero(bins.sent_packets - bins.arrived_packets) > 15
    assert (evidence.loss_runs, evidence.lost_in_runs) == (1, 64)
    assert evidence.extra == {"kernel_drops": 64}  # five batches, and no more than were lost
    one = reception.record.evidence(28, 1)
    assert one is not None
    assert one.extra == {"kernel_drops": 64}
    none = reception.record.evidence(28, 0)
    assert none is not None
    assert none.extra == {"kernel_drops": 0}
    assert np.nanmax(bins.delay_us) == 98


def test_delay_counts_from_the_least_one() -> None:
    reception = Reception()
    for number in range(1, 101):
        transit_us = -5e9 + (2_000.0 if 40 <= number < 60 else 0.0)  # the clocks differ
        assert reception.add_run(_wire(number, 1), 1, transit_us, SIZE, START_US + 1_000 * number)
    _, bins = _evidence(reception)
    assert np.nanmin(bins.delay_us) == 0
    assert np.count_nonzero(bins.delay_us == 2_000) == 20


def test_forged_numbers_and_times_do_no_harm() -> None:
    record = ArrivalRecord()
    record.add_run(0, START_US, 1, SIZE, 0.0)
    record.add_run(1 << NUMBER_BITS, START_US + 10, 1, SIZE, 0.0)
    record.add_run(0, 0, 1, SIZE, 0.0)
    record.add_run(0, (1 << 32) * 1_000_000, 1, SIZE, 0.0)
    record.add(np.array([5, -1, -2]), np.array([1 << 50, 0, 7]), 3 * SIZE, np.zeros(3), 0)
    evidence = record.evidence(28, None)
    assert evidence is not None
    assert evidence.lost_in_runs is None or evidence.lost_in_runs <= 2 * MOST_SKIPPED
    assert evidence.flight is None or not evidence.flight.fault()
    assert evidence.extra == {}


def test_a_receiver_of_nothing_has_no_evidence() -> None:
    assert ArrivalRecord().evidence(28, 0) is None
