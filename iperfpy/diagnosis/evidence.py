"""The measurements that a diagnosis concludes from, whatever made them: a live test, or a simulation.

one ordinary test         RunEvidence        -> conclusions of one test
one direction of a path   DirectionEvidence   -> conclusions of ladder and rounds together
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iperfpy.plan import Direction
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Kind, Meaning, Value, number, with_meaning
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence
from iperfpy.protocols.window_size import enough_of


@dataclass(frozen=True, slots=True)
class EndFigures:
    """Figures of a whole test for conclusions, whatever the keys of the transport are. None: not known.

    Parameters
    ----------
    resent : retransmissions
    transmitted : segments with data, retransmissions included
    in_vain : those of data that had arrived, as the sender learned
    repeated : arrivals of data that had arrived before, by the receiver's count
    sent, lost : datagrams of a transport that may lose data, by `Transport.delivery`
    first_datagram, full_datagram : UDP payload of a full datagram, as announced and as the path carries it
    enough_segments : segments that fill the path (`window_size`)
    """

    resent: float | None = None
    transmitted: float | None = None
    in_vain: float | None = None
    repeated: float | None = None
    sent: float | None = None
    lost: float | None = None
    first_datagram: float | None = None
    full_datagram: float | None = None
    enough_segments: int | None = None

    @classmethod
    def of(
        cls, transport: Transport, sender: Mapping[str, Value], receiver: Mapping[str, Value]
    ) -> EndFigures:
        """The figures of two ends, each by metric key, and the payload under `bytes`."""
        metrics, delivery = transport.metrics, transport.delivery

        def operand(
            values: Mapping[str, Value], meaning: Meaning, kind: Kind, *, whole: bool = False
        ) -> float | None:
            """The counter that a share with this meaning divides, or the one by which it is divided."""
            found = (one for one in with_meaning(metrics, meaning) if one.kind is kind)
            keys = (one.denominator if whole else one.numerator for one in found)
            return next((number(values.get(key)) for key in keys), None)

        def size(meaning: Meaning) -> float | None:
            return next((number(sender.get(one.key)) for one in with_meaning(metrics, meaning)), None)

        return cls(
            resent=operand(sender, Meaning.RESENT, Kind.RATIO),
            transmitted=operand(sender, Meaning.RESENT, Kind.RATIO, whole=True),
            in_vain=operand(sender, Meaning.RESENT_IN_VAIN, Kind.RATIO),
            repeated=operand(receiver, Meaning.RESENT_IN_VAIN, Kind.ACROSS),
            sent=number(sender.get(delivery.sent)) if delivery else None,
            lost=number(receiver.get(delivery.missing)) if delivery else None,
            first_datagram=size(Meaning.FIRST_DATAGRAM),
            full_datagram=size(Meaning.FULL_DATAGRAM),
            enough_segments=enough_of(sender, metrics),
        )


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
    figures : figures of both ends by their meaning
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
    figures: EndFigures = EndFigures()

    @property
    def resent_share(self) -> float | None:
        """Retransmissions among all transmissions of data; None: not known."""
        resent, transmitted = self.figures.resent, self.figures.transmitted
        return resent / transmitted if resent is not None and transmitted else None

    @property
    def resent_in_vain(self) -> float | None:
        """Retransmissions of data that had arrived; None: not known.

        A receiver of stock KCP does not acknowledge every copy, so its sender learns of a part of them: the
        receiver's count of segments that arrived again is the better one. Elsewhere each arrival is
        acknowledged, and the receiver's count would have the copies that the path made, too.
        """
        found, repeated, resent = self.figures.in_vain, self.figures.repeated, self.figures.resent
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
