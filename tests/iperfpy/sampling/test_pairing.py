"""Pairing of local intervals with those of the peer."""

from __future__ import annotations

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit
from iperfpy.records import Row, Sample
from iperfpy.sampling.pairing import RowPairing
from iperfpy.sampling.sums import total

METRICS = (Metric("again", "retransmissions"),)
I = 1_000_000  # noqa: E741 - the interval, everywhere below


def own(start: int, end: int, size: int = 0, *, omitted: bool = False) -> tuple[Sample, ...]:
    return (Sample(1, Side.RECEIVER, start, end, size, {}, omitted),)


def peer(start: int, end: int, size: int, *, omitted: bool = False) -> dict[int, Sample]:
    return {1: Sample(1, Side.SENDER, start, end, size, {"again": 1}, omitted)}


class Report:
    """A pairing with the rows that it has emitted."""

    def __init__(self, wait_us: int = I) -> None:
        self.rows: list[Row] = []
        self.pairing = RowPairing(
            {1: Direction.REVERSE}, METRICS, I, wait_us, lambda rows: self.rows.extend(rows)
        )

    @property
    def pairs(self) -> list[tuple[int, int | None]]:
        return [(row.local.bytes, row.peer.bytes if row.peer else None) for row in self.rows]


def test_a_row_waits_for_the_peers_interval() -> None:
    report = Report()
    report.pairing.own(own(0, I, 10), I)
    report.pairing.release(I + 500_000)
    assert report.rows == []
    report.pairing.peer(peer(0, I, 11), I + 600_000)
    assert report.pairs == [(10, 11)]
    assert report.rows[0].direction is Direction.REVERSE
    assert report.rows[0].of(Side.SENDER) is report.rows[0].peer


def test_a_row_is_emitted_after_the_wait_expires() -> None:
    report = Report()
    report.pairing.own(own(0, I, 10), I)
    report.pairing.release(2 * I)
    assert report.pairs == [(10, None)]
    report.pairing.peer(peer(0, I, 11), 2 * I + 1)  # too late for its row; the totals still include it
    report.pairing.own(own(I, 2 * I, 20), 2 * I)
    report.pairing.peer(peer(I, 2 * I, 21), 2 * I + 200_000)
    assert report.pairs == [(10, None), (20, 21)]
    assert report.pairing.peer_totals[1].bytes == 32
    assert report.pairing.peer_totals[1].values["again"] == 2


def test_the_peers_interval_may_arrive_first() -> None:
    report = Report()
    report.pairing.peer(peer(0, I, 11), I - 5)
    report.pairing.own(own(0, I, 10), I)
    report.pairing.release(I + 100_000)
    assert report.pairs == [(10, 11)]


def test_without_peer_figures_a_row_waits_only_for_a_runt() -> None:
    report = Report(wait_us=0)
    report.pairing.own(own(0, I, 10), I)
    report.pairing.release(I + 99_999)
    assert report.rows == []
    report.pairing.release(I + 100_000)
    assert report.pairs == [(10, None)]


def test_a_runt_is_merged_into_the_row_before() -> None:
    report = Report()
    report.pairing.own(own(0, I, 10), I)
    report.pairing.peer(peer(0, I, 11), I)
    report.pairing.own_last(own(I, I + 50_000, 3), I + 50_000)
    report.pairing.peer(peer(I, I + 70_000, 2), I + 60_000)
    report.pairing.release_all()
    assert report.pairs == [(13, 13)]
    assert (report.rows[0].local.start_us, report.rows[0].local.end_us) == (0, I + 50_000)


def test_a_longer_last_interval_is_a_row_of_its_own() -> None:
    report = Report()
    report.pairing.own(own(0, I, 10), I)
    report.pairing.own_last(own(I, I + 150_000, 3), I + 150_000)
    report.pairing.release_all()
    assert report.pairs == [(10, None), (3, None)]


def test_later_intervals_of_the_peer_are_merged_into_the_last_row() -> None:
    report = Report()
    report.pairing.own(own(0, I, 10), I)
    report.pairing.own_last(own(I, 2 * I, 10), 2 * I)
    for start, size in ((0, 9), (I, 9), (2 * I, 2)):
        report.pairing.peer(peer(start, start + I, size), 2 * I)
    report.pairing.release_all()
    assert report.pairs == [(10, 9), (10, 11)]


def test_a_short_test_is_one_row() -> None:
    report = Report()
    report.pairing.own_last(own(0, 50_000, 3), 50_000)
    report.pairing.release_all()
    assert report.pairs == [(3, None)]


def test_a_runt_is_not_merged_into_an_omitted_row() -> None:
    report = Report()
    report.pairing.own(own(0, I, 10, omitted=True), I)
    report.pairing.peer(peer(0, I, 9, omitted=True), I)
    report.pairing.own_last(own(0, 50_000, 3), I + 50_000)
    report.pairing.peer(peer(0, 60_000, 4), I + 60_000)
    report.pairing.release_all()
    assert report.pairs == [(10, 9), (3, 4)]
    assert report.pairing.peer_totals[1].bytes == 4


def test_a_peer_that_stood_still_is_paired_by_time_again() -> None:
    """It skips the boundaries that it has missed; its figures until then are in the row where it goes on."""
    report = Report(wait_us=2 * I)
    told = {1: [(0, I, 1)], 5: [(I, 4_200_000, 40), (4_200_000, 5 * I, 5)], 6: [(5 * I, 6 * I, 6)]}
    for second in range(1, 7):
        for start_us, end_us, size in told.get(second, ()):
            report.pairing.peer(peer(start_us, end_us, size), end_us)
        report.pairing.own(own((second - 1) * I, second * I, 10), second * I)
    report.pairing.release_all()
    assert report.pairs == [(10, 1), (10, None), (10, None), (10, 40), (10, 5), (10, 6)]


def test_an_end_that_stood_still_takes_all_that_the_peer_has_told_meanwhile() -> None:
    report = Report()
    report.pairing.own(own(0, I, 10), I)
    for second in range(1, 6):
        report.pairing.peer(peer((second - 1) * I, second * I, second), 4_200_000)
    report.pairing.own(own(I, 4_200_000, 32), 4_200_000)
    report.pairing.own(own(4_200_000, 5 * I, 8), 5 * I)
    report.pairing.release_all()
    assert report.pairs == [(10, 1), (32, 2 + 3 + 4), (8, 5)]


def test_figures_of_unlike_periods_are_not_compared() -> None:
    """An end that stood still tells in one sample of all that it has counted since."""
    share = Metric("share", "arrived", kind=Kind.ACROSS, numerator="got", denominator="sent")
    metrics = (Metric("sent", "sent"), Metric("got", "arrived", side=Side.RECEIVER), share)
    rows: list[Row] = []
    pairing = RowPairing({1: Direction.REVERSE}, metrics, I, I, rows.extend)
    for start_us, end_us in ((0, I), (I, 4 * I)):
        pairing.peer({1: Sample(1, Side.SENDER, start_us, end_us, 0, {"sent": 100})}, end_us)
        pairing.own((Sample(1, Side.RECEIVER, end_us - I, end_us, 0, {"got": 50}),), end_us)
    pairing.release_all()
    for reported in (rows, [total([row], metrics) for row in rows]):
        assert [row.peer.values["share"] for row in reported if row.peer] == [0.5, None]


def test_a_figure_of_a_whole_test_is_empty_in_intervals() -> None:
    """Units on their way at the end of an interval would count as missing."""
    part, whole = Metric("got", "", side=Side.RECEIVER), Metric("left", "")
    missing = Metric(
        "stayed_percent",
        "",
        Unit.PERCENT,
        Kind.MISSING,
        numerator="got",
        denominator="left",
        whole_test=True,
    )
    metrics, rows = (part, whole, missing), list[Row]()
    pairing = RowPairing({1: Direction.REVERSE}, metrics, I, I, rows.extend)
    pairing.own((Sample(1, Side.RECEIVER, 0, I, 10, {"got": 90}),), I)
    pairing.peer({1: Sample(1, Side.SENDER, 0, I, 10, {"left": 100})}, I)
    pairing.release_all()
    assert [row.peer.values["stayed_percent"] for row in rows if row.peer] == [None]
    summed = total(rows, metrics).peer
    assert summed is not None
    assert summed.values["stayed_percent"] is None
