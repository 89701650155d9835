"""Runs a KCP flow in the simulator and takes snapshots of its counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from iperfpy.protocols.congestion.congestion_control import CongestionControl
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings
from iperfpy.protocols.simulator.application import Bulk
from iperfpy.protocols.simulator.path import OVERHEAD_BYTES, Path
from iperfpy.protocols.simulator.simulation import SimulatedFlow, Simulation
from iperfpy.protocols.simulator.truth import Truth

SECOND = 1_000_000
MTU, MSS = 1_400, 1_376
PAYLOAD_SHARE = MSS / (MTU + OVERHEAD_BYTES)


@dataclass(slots=True)
class Snapshot:
    """Cumulative figures of a flow at one moment."""

    now_us: int
    payload_bytes: int  # in order at the receiver
    received: int  # the same plus segments that wait for order there
    segments: int
    retransmitted: int
    spurious: int
    rtt_sum_us: int
    rtt_samples: int
    truth: Truth
    state: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Stretch:
    """Differences between two snapshots."""

    first: Snapshot
    last: Snapshot

    @property
    def seconds(self) -> float:
        return (self.last.now_us - self.first.now_us) / 1e6

    @property
    def goodput_bits_per_s(self) -> float:
        return 8 * (self.last.payload_bytes - self.first.payload_bytes) / self.seconds

    @property
    def truth(self) -> Truth:
        return self.last.truth - self.first.truth

    @property
    def segments(self) -> int:
        return self.last.segments - self.first.segments

    @property
    def retransmitted(self) -> int:
        return self.last.retransmitted - self.first.retransmitted

    @property
    def spurious(self) -> int:
        return self.last.spurious - self.first.spurious

    @property
    def mean_rtt_us(self) -> float:
        return (self.last.rtt_sum_us - self.first.rtt_sum_us) / max(
            1, self.last.rtt_samples - self.first.rtt_samples
        )


class Watched:
    """One flow with a snapshot every `interval_us`."""

    def __init__(self, simulation: Simulation, flow: SimulatedFlow, sender: Engine, receiver: Engine) -> None:
        self.simulation, self.flow, self.sender, self.receiver = simulation, flow, sender, receiver
        self.snapshots: list[Snapshot] = []

    def snap(self, now_us: int) -> None:
        counts, rtt = self.sender.counts, self.sender.rtt
        self.snapshots.append(
            Snapshot(
                now_us,
                self.receiver.receiving.bytes,
                self.receiver.receiving.bytes + MSS * self.receiver.receiving.stored,
                counts.segments_sent,
                counts.fast + counts.early + counts.lost,
                self.sender.recovery.spurious,
                rtt.sum_us,
                rtt.samples,
                self.flow.forward.truth.copy(),
                dict(self.sender.control.state()) if self.sender.control else {},
            )
        )

    def between(self, from_s: float, to_s: float) -> Stretch:
        """Give the stretch between the snapshots nearest to two times."""

        def nearest(at_s: float) -> Snapshot:
            return min(self.snapshots, key=lambda snapshot: abs(snapshot.now_us - at_s * SECOND))

        return Stretch(nearest(from_s), nearest(to_s))


def watch(
    simulation: Simulation, flow: SimulatedFlow, sender: Engine, receiver: Engine, interval_us: int = 100_000
) -> Watched:
    watched = Watched(simulation, flow, sender, receiver)
    simulation.every(interval_us, watched.snap)
    return watched


def bbr_engine(seed: int) -> Engine:
    return with_bbr(seed, KcpBbrSettings())


def single(
    forward: Path,
    backward: Path,
    seed: int,
    seconds: float = 30.0,
    make: Callable[[int], Engine] = bbr_engine,
    control: Callable[[int], CongestionControl] | None = None,
) -> Watched:
    """Run one flow of bulk data over a path of its own."""
    simulation = Simulation(seed)
    sender, receiver = make(seed), make(seed)
    if control is not None:
        sender.steer(control(seed))
    there, back = simulation.link(forward), simulation.link(backward)
    flow = simulation.flow(sender, receiver, there, back, Bulk(sender))
    watched = watch(simulation, flow, sender, receiver)
    simulation.run(int(seconds * SECOND))
    return watched
