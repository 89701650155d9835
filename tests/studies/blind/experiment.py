"""The experiment on one drawn path, in virtual time: the evidence that `iperfpy diagnose` gathers.

    idle echoes and sizes -> a bulk flow -> the ladder -> a bulk flow and bare datagrams

All parts share the two links, so each finds the path as the one before left it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis import ladder
from iperfpy.diagnosis.evidence import DirectionEvidence, EndFigures, IdlePath, RunEvidence, Rung
from iperfpy.diagnosis.rate_variation import SATURATES
from iperfpy.plan import Direction
from iperfpy.protocols.arrival_lumps import lump_us
from iperfpy.protocols.kcp.engine_factory import stock, with_bbr
from iperfpy.protocols.kcp.kcp_evidence import path_evidence
from iperfpy.protocols.kcp.kcp_metrics import record
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.path_evidence import MOST_BINS, FlightBins, PathEvidence
from iperfpy.protocols.registry import transport
from iperfpy.protocols.simulator.application import Bulk, Paced, Silent
from iperfpy.protocols.simulator.simulation import Endpoint, Simulation
from tests.studies.blind.datagram_flows import HEADERS, Collector, Echoes, Mirror, SlowReader, Stream
from tests.studies.blind.drawing import MTU_HINT, BlindPath

Int64s = NDArray[np.int64]
SECOND = 1_000_000
IDLE_S, IDLE_PER_S, RUNG_S, RUNG_PER_S = 2.5, 200.0, ladder.SECONDS, 20.0
BULK_S, BULK_RTTS, LONGEST_BULK_S = 4.0, 20.0, 6.0
COALESCE_US = 1_000.0
RAW_S, RAW_SHARE = 3.0, 0.9
FEWEST_RESENT = 20
MOST_BULKS = 5
"""Bulk tests until something arrives."""
MOST_FLIGHTS, STRIKES = 9, 3
"""Flights of all sizes, and those with an answer after which a size that never came back is given up."""
SIZES = (576, 1_280, 1_400, 1_420, 1_450, 1_480, 1_492, 1_500)


class Ended:
    """An application that stops at a time."""

    def __init__(self, application: Bulk, until_us: int) -> None:
        self._application, self._until_us = application, until_us

    def feed(self, now_us: int) -> int:
        """Write until the end."""
        return self._application.feed(now_us) if now_us < self._until_us else 0

    def due_us(self) -> int | None:
        """The time of the next write."""
        due_us = self._application.due_us()
        return due_us if due_us is None or due_us < self._until_us else None


class Experiment:
    """One path under measurement."""

    def __init__(self, path: BlindPath) -> None:
        self.path = path
        self.simulation = Simulation(path.seed, COALESCE_US)
        self.periods: list[tuple[float, int, int]] = []
        """Rate, begin and end of each stretch."""
        self.there, self.back = self.simulation.link(path.forward), self.simulation.link(path.backward)
        self.plain = self.simulation.link(path.unfiltered) if path.filtered else self.there
        """The forward link of anything but UDP."""
        self.in_vain: list[tuple[int, int]] = []
        """Retransmissions of each flow: those of segments that had arrived, and all of them."""

    @property
    def now_us(self) -> int:
        """Virtual time."""
        return self.simulation.now_us

    @property
    def mean_rate(self) -> float:
        """Mean rate that the path has had so far, bits per second: the one drawn, unless the rate walks."""
        if "rate_walk" not in self.path.there:
            return self.path.rate
        # While it was overloaded: only then it could be measured.
        spans = [span for rate, *span in self.periods if rate > SATURATES * self.path.rate]
        edges = np.array(spans or [[0, self.now_us]], np.float64)
        served = self.there.served_us(edges.ravel()).reshape(-1, 2)
        return float(self.path.rate * np.diff(served).sum() / np.diff(edges).sum())

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.simulation.run(self.now_us + int(seconds * SECOND))

    def echoes(self, seconds: float, per_s: float, size: int = 36) -> Echoes:
        """Start echoes."""
        echoes = Echoes(self.now_us + 1_000, seconds, per_s, size)
        self.simulation.flow(echoes, Mirror(), self.there, self.back, Silent(), start_us=self.now_us)
        return echoes

    def idle(self) -> IdlePath:
        """Measure delay and MTU without load."""
        echoes = self.echoes(IDLE_S, IDLE_PER_S)
        self.wait(IDLE_S + 2 * self.path.rtt_us / 1e6 + 0.5)
        return IdlePath(
            percentiles(echoes.rtts_us),
            self.mtu(),
            MTU_HINT,
            len(echoes.rtts_us),
            lump_us(np.array(echoes.answered_us), 1e6 / IDLE_PER_S),
        )

    def mtu(self) -> int | None:
        """Find the longest packet that passes. Each flight sends all sizes; a longer packet counts as lost
        only if a shorter one of the same flight came back."""
        longest, strikes = 0, 0
        for _ in range(MOST_FLIGHTS):
            flight = {size: self.echoes(0.1, 10.0, size - HEADERS) for size in reversed(SIZES)}
            self.wait(0.5 + 2 * self.path.rtt_us / 1e6)
            passed = max((size for size, probe in flight.items() if probe.rtts_us), default=0)
            longest, strikes = max(longest, passed), strikes + (passed > 0)
            if longest == max(SIZES) or strikes == STRIKES:
                break
        return longest or None

    def raw(self, rate: float, packet_bytes: int) -> RunEvidence:
        """Send bare datagrams at a rate, as a test of its own."""
        rung = self.rung(rate, packet_bytes, RAW_S)
        payload = (packet_bytes - HEADERS) / packet_bytes
        return RunEvidence(
            transport="udp",
            reliable=False,
            controlled=False,
            streams=1,
            seconds=RAW_S,
            bits_per_second=rung.arrived * packet_bytes * 8 / RAW_S * payload,
            target_bits_per_second=rate * payload,
            path=(
                PathEvidence(
                    flight=rung.flight,
                    loss_runs=rung.loss_runs,
                    lost_in_runs=rung.lost_in_runs,
                    rtt_us=rung.rtt_us,
                    displaced_packets=rung.late,
                    packet_bytes=packet_bytes,
                ),
            ),
            block_bytes=packet_bytes - HEADERS,
            kernel_drops=rung.kernel_drops,
        )

    def rung(self, rate: float, packet_bytes: int, seconds: float = RUNG_S) -> Rung:
        """Send datagrams at a rate beside echoes."""
        start_us = self.now_us + 1_000
        self.periods.append((rate, start_us, start_us + int(seconds * SECOND)))
        stream, collector = Stream(rate, packet_bytes, start_us, seconds), Collector()
        reader = self.reader(collector)
        self.simulation.flow(stream, reader, self.there, self.back, Silent(), start_us=self.now_us)
        echoes = self.echoes(seconds, RUNG_PER_S)
        self.wait(seconds)
        rest_s = 0.3 + 2 * self.path.rtt_us / 1e6
        self.wait(rest_s)
        # The queue drains before the next one.
        self.drain()
        self.wait(self.path.rtt_us / 1e6)
        sent_us = np.concatenate(stream.times)
        numbers, times = collector.arrivals
        first = np.unique(numbers, return_index=True)
        arrived_us = np.full(len(sent_us), -1)
        arrived_us[first[0]] = times[first[1]]
        runs = lost_runs(arrived_us < 0)
        fresh = numbers[np.sort(first[1])]
        late = int((fresh < np.maximum.accumulate(fresh)).sum()) if len(fresh) else 0
        return Rung(
            len(sent_us) * packet_bytes * 8 / seconds,
            packet_bytes,
            seconds,
            len(sent_us),
            len(fresh),
            percentiles(echoes.rtts_us),
            bins(sent_us, arrived_us, np.full(len(sent_us), packet_bytes)),
            late,
            len(numbers) - len(fresh),
            dropped_by(reader),
            *runs,
        )

    def reader(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint on the receiving machine, which may be slow."""
        path = self.path
        return SlowReader(endpoint, path.reads_per_s, path.reader_room) if path.reads_per_s else endpoint

    def bulk(self, *, stream: bool = False) -> RunEvidence:
        """Send bulk data with kcp-bbr, or with stock KCP.

        stream : True if the flow stands for TCP, which no filter of UDP affects
        """
        path = self.path
        seconds = min(LONGEST_BULK_S, max(BULK_S, BULK_RTTS * path.rtt_us / 1e6))
        mtu = min(1_400, path.there.get("maxlen") or 1_400)
        mine = KcpBbrSettings(mtu=mtu, sndwnd=path.send_window or KcpBbrSettings().sndwnd)
        theirs = KcpBbrSettings(mtu=mtu, rcvwnd=path.receive_window or KcpBbrSettings().rcvwnd)
        number = path.seed * 100 + len(self.simulation._hosts)
        sender, receiver = with_bbr(number, mine), with_bbr(number, theirs)
        if path.stock_window:
            plain = KcpSettings(mtu=mtu, sndwnd=path.stock_window, rcvwnd=max(2_048, path.stock_window))
            sender, receiver = stock(number, plain), stock(number, plain)
        reader = receiver if stream else self.reader(receiver)
        start_us, until_us = self.now_us, self.now_us + int(seconds * SECOND)
        source = Paced(sender, path.application, start_us=start_us) if path.application else Bulk(sender)
        application = Ended(source, until_us)
        there = self.plain if stream else self.there
        self.simulation.flow(sender, reader, there, self.back, application, start_us=start_us)
        self.wait(seconds)
        evidence = path_evidence(sender, self.now_us)
        sent, received = record(sender, self.now_us), record(receiver, self.now_us, sends=False)
        engine = transport("kcp" if path.stock_window else "kcp-bbr")
        run = RunEvidence(
            transport="tcp" if stream else "kcp" if path.stock_window else "kcp-bbr",
            reliable=True,
            controlled=not path.stock_window,
            over_udp=not stream,
            kernel_drops=dropped_by(reader),
            streams=1,
            seconds=seconds,
            bits_per_second=receiver.receiving.bytes * 8 / seconds,
            direction=Direction.FORWARD,
            sender=sent,
            receiver=received,
            figures=EndFigures.of(engine, sent, received),
            path=() if evidence is None else (evidence,),
            window_flags=("--sndwnd", "--rcvwnd"),
            windows=(path.stock_window or mine.sndwnd, theirs.rcvwnd),
        )
        self.wait(0.5 + 3 * path.rtt_us / 1e6)
        self.drain()
        # A copy may still be on its way when the flow ends.
        self.in_vain.append((receiver.receiving.duplicates, sender.counts.retransmitted))
        return run

    def drain(self) -> None:
        """Wait until nothing is queued."""
        while max(link.backlog_bytes(self.now_us) for link in (self.there, self.plain)) > 0:
            self.wait(0.1)


def dropped_by(reader: Endpoint) -> int:
    """Packets that a receiving machine dropped."""
    return reader.dropped if isinstance(reader, SlowReader) else 0


@dataclass(frozen=True, slots=True)
class Gathered:
    """The evidence of one direction, and facts about it that only the simulator knows.

    Parameters
    ----------
    mean_rate : bits per second that the path had in its overload
    in_vain : largest share of a flow's retransmissions of segments that had arrived, of 20 or more
    """

    evidence: DirectionEvidence
    mean_rate: float
    in_vain: float


def gather(path: BlindPath) -> Gathered:
    """Run the whole experiment on one direction."""
    experiment = Experiment(path)
    idle = experiment.idle()
    longest = min(idle.mtu_bytes or 1_500, 1_500)

    def flows() -> tuple[RunEvidence, ...]:
        """The adaptive flows of a round. A test in which nothing arrived is repeated: a burst of losses may
        take all segments of the start."""
        found = next(run for _ in range(MOST_BULKS) if (run := experiment.bulk()).bits_per_second)
        return (experiment.bulk(stream=True), found) if path.rounds else (found,)

    rounds: list[tuple[RunEvidence, ...]] = [flows()]
    estimate = ladder.estimate([[run for run in rounds[0] if run.over_udp]])
    packet = ladder.packet_bytes(estimate, longest)
    rungs: list[Rung] = []
    due = list(ladder.rates(estimate, path.seed))
    while due:
        for rate in due:
            experiment.wait(ladder.pause_s(rate, estimate))
            rungs.append(experiment.rung(rate, packet))
        due = list(ladder.further(rungs))
    for number in range(max(1, path.rounds)):
        # The rate of bare datagrams follows that of TCP, if there is one.
        streams = [run for tests in rounds for run in tests if not run.over_udp]
        rate = ladder.estimate([streams]) if streams else estimate
        more = flows() if number > 0 else ()
        rounds.append((*more, experiment.raw(RAW_SHARE * rate, packet)))
    evidence = DirectionEvidence(Direction.FORWARD, idle, tuple(rungs), tuple(rounds))
    shares = [vain / all_ for vain, all_ in experiment.in_vain if all_ >= FEWEST_RESENT]
    return Gathered(evidence, experiment.mean_rate, max(shares, default=0.0))


def percentiles(values: list[int]) -> dict[str, float]:
    """p5, p50, p95 and max; empty for no values."""
    if not values:
        return {}
    p5, p50, p95 = np.percentile(values, (5, 50, 95))
    return {"p5": float(p5), "p50": float(p50), "p95": float(p95), "max": float(max(values))}


def lost_runs(lost: NDArray[np.bool_]) -> tuple[int, int]:
    """Runs of consecutive losses, and the losses in them."""
    return int(lost[:1].sum() + (lost[1:] & ~lost[:-1]).sum()), int(lost.sum())


def bins(sent_us: Int64s, arrived_us: Int64s, sizes: Int64s) -> FlightBins:
    """Sort transmissions, (n,) each and -1 for a lost one, into bins with one-way delays."""
    start_us, width_us = int(sent_us[0]), 1_000
    while (sent_us[-1] - start_us) // width_us >= MOST_BINS:
        width_us *= 2
    at = (sent_us - start_us) // width_us
    count = int(at[-1]) + 1
    there = arrived_us >= 0

    def total(mask: NDArray[np.bool_], weights: Int64s | None = None) -> NDArray[np.int64]:
        return np.bincount(at[mask], None if weights is None else weights[mask], count).astype(np.int64)

    every = np.ones(len(at), np.bool_)
    delays = arrived_us - sent_us
    least = int(delays[there].min()) if there.any() else 0
    arrived = total(there)
    sums = np.bincount(at[there], (delays - least)[there], count)
    with np.errstate(invalid="ignore"):
        mean = np.where(arrived > 0, sums / np.maximum(arrived, 1), np.nan)
    return FlightBins(
        0,
        width_us,
        total(every, sizes),
        total(there, sizes),
        total(every),
        arrived,
        mean,
        one_way=True,
        least_us=float(least),
    )
