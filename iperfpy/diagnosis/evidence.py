"""The measurements that a diagnosis concludes from, whatever made them: a live test, or a simulation.

one ordinary test         RunEvidence        -> conclusions of one test
one direction of a path   DirectionEvidence   -> conclusions of ladder and rounds together
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Value, number
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """One direction of one test, sums over its streams.

    Parameters
    ----------
    transport : its name; `reliable` and `controlled` say if it repeats losses and adapts its rate, and
        `over_udp` if its packets are UDP datagrams
    streams : number of streams in this direction
    seconds : measured period
    bits_per_second : payload that arrived
    target_bits_per_second : -b of the test, 0: none
    sender, receiver : totals by metric key, `bytes` included; empty: not known
    path : one record per stream, of the end that knows most
    cpu_percent : keys of `RunEnded.cpu_percent`, with `sender_` and `receiver_` instead of host_ and remote_
    idle_rtt_us : before the test
    block_bytes : payload of a datagram, or 0
    window_flags : flags of the send and of the receive window, as advice names them; empty: none
    windows : send and receive window in segments, as the settings of the two ends have them; empty: not known
    kernel_drops : datagrams that the receiver's kernel dropped, None: not known
    same_host : True if both ends have the same address: no network is between them
    quiet_s : time at the end of the test in which no payload moved
    enough_segments : segments that fill the path by the sender's figures (`window_size`); None: not known
    """

    transport: str
    reliable: bool
    controlled: bool
    streams: int
    seconds: float
    bits_per_second: float
    direction: Direction = Direction.FORWARD
    target_bits_per_second: float = 0.0
    sender: Mapping[str, Value] = field(default_factory=dict)
    receiver: Mapping[str, Value] = field(default_factory=dict)
    path: tuple[PathEvidence, ...] = ()
    cpu_percent: Mapping[str, float] = field(default_factory=dict)
    idle_rtt_us: float | None = None
    block_bytes: int = 0
    over_udp: bool = True
    window_flags: tuple[str, str] | tuple[()] = ()
    windows: tuple[int, int] | tuple[()] = ()
    kernel_drops: int | None = None
    same_host: bool = False
    quiet_s: float = 0.0
    enough_segments: int | None = None

    @property
    def resent_in_vain(self) -> float | None:
        """Retransmissions of segments that had arrived; None: not known.

        A receiver of stock KCP does not acknowledge every copy, so its sender learns of a part of them: the
        receiver's count of segments that arrived again is the better one. Elsewhere each arrival is
        acknowledged, and the receiver's count would have the copies that the path made, too.
        """
        found = number(self.sender.get("spurious"))
        repeated, resent = number(self.receiver.get("duplicates")), number(self.sender.get("retransmits"))
        if self.controlled or found is None or repeated is None or resent is None:
            return found
        return max(found, min(repeated, resent))


@dataclass(frozen=True, slots=True)
class Rung:
    """One short period of UDP at one rate.

    Parameters
    ----------
    offered_bits_per_s : rate of IP packets that left
    packet_bytes : IP packet bytes of each
    sent, arrived : datagrams
    rtt_us : p5, p50, p95, max of the echoes
    flight : by time, None if the receiver does not tell (a stock iperf3)
    late, duplicates : datagrams
    loss_runs, lost_in_runs : runs of consecutive datagrams that were lost, and the datagrams in them; None:
        the receiver does not tell
    kernel_drops : datagrams that the receiver's kernel dropped, None: not known
    """

    offered_bits_per_s: float
    packet_bytes: int
    seconds: float
    sent: int
    arrived: int
    rtt_us: Mapping[str, float] = field(default_factory=dict)
    flight: FlightBins | None = None
    late: int = 0
    duplicates: int = 0
    kernel_drops: int | None = None
    loss_runs: int | None = None
    lost_in_runs: int | None = None


@dataclass(frozen=True, slots=True)
class IdlePath:
    """The path before any load.

    Parameters
    ----------
    rtt_us : p5, p50, p95, max
    echoes : number of echoes behind these
    lump_us : distance of the moments at which answers to closely spaced echoes (200 a second) arrive, by
        `protocols.arrival_lumps`; None: not known
    mtu_bytes : longest IP packet that passes, None: not known
    mtu_hint_bytes : the one that the interface and the TCP connection announce
    """

    rtt_us: Mapping[str, float] = field(default_factory=dict)
    mtu_bytes: int | None = None
    mtu_hint_bytes: int | None = None
    echoes: int = 0
    lump_us: float | None = None


@dataclass(frozen=True, slots=True)
class DirectionEvidence:
    """All measurements of one direction of a path. `rounds`: tests of one round, in order, interleaved."""

    direction: Direction
    idle: IdlePath = IdlePath()
    rungs: tuple[Rung, ...] = ()
    rounds: tuple[tuple[RunEvidence, ...], ...] = ()
