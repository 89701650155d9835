"""KCP and KCP+BBR over a simulated path of 170 ms, with a queue up and a policer down.

    make seed                            # or python -m tests.studies.paths.seed: half a minute

The author of iperf-go measured KCP (normal mode, window 512, flush 10 ms, no congestion control) at 17.7 Mb/s
up with 25 % lost and at 8.1 Mb/s down with 121 % retransmitted, asked why the directions differ so much, and
what to do. Only the delay and the rate of that path are known. `PATHS` are the simplest paths on which the
same settings give his figures: 24 Mb/s up and a bucket of 192 KB down were chosen for that, and nothing else
was fitted. `kcp-bbr` was not tuned to them.

`Wire` follows every transmission; the table shows its count of spurious retransmissions beside the sender's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock, with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.kcp.wire import HEADER, PUSH
from iperfpy.protocols.simulator.application import Bulk
from iperfpy.protocols.simulator.path import Path, bdp_bytes
from iperfpy.protocols.simulator.simulation import Simulation

RTT_US = 170_000
SECONDS = 10.0
"""iperf's default duration, start included."""
QUEUE_BYTES = bdp_bytes(20e6, RTT_US)

PATHS = {
    "up, 24 Mb/s with a queue": Path(24e6, QUEUE_BYTES, RTT_US / 2),
    "up, 20 Mb/s with a queue": Path(20e6, QUEUE_BYTES, RTT_US / 2),
    "down, policed to 20 Mb/s": Path(
        100e6, 4_000_000, RTT_US / 2, police_bits_per_s=20e6, bucket_bytes=192_000
    ),
}
REPORTED = {
    "up, 24 Mb/s with a queue": "17.7 Mb/s, 25 % lost",
    "down, policed to 20 Mb/s": "8.1 Mb/s, 121 % retransmitted",
}
SETTINGS = KcpSettings(sndwnd=512, rcvwnd=512, nodelay=0, interval=10, resend=0, nc=1)
MAKERS: dict[str, Callable[[], Engine]] = {
    "kcp": lambda: stock(1, SETTINGS),
    "kcp-bbr": lambda: with_bbr(1, KcpBbrSettings()),
}


class Wire:
    """Fate of every transmission of every segment, by its time stamp; each transmission has its own."""

    def __init__(self) -> None:
        self._sent: defaultdict[int, list[int]] = defaultdict(list)
        self._arrived: set[tuple[int, int]] = set()

    def left(self, batches: Sequence[DatagramBatch]) -> None:
        for number, stamp in _segments(batches):
            self._sent[number].append(stamp)

    def arrived(self, batch: DatagramBatch) -> None:
        self._arrived.update(_segments([batch]))

    @property
    def spurious(self) -> int:
        """Number of retransmissions of segments that an earlier transmission carried to the receiver."""
        count = 0
        for number, stamps in self._sent.items():
            here = [at for at, stamp in enumerate(stamps) if (number, stamp) in self._arrived]
            count += len(stamps) - 1 - here[0] if here else 0
        return count


def _segments(batches: Sequence[DatagramBatch]) -> Iterator[tuple[int, int]]:
    """Yield sequence number and time stamp of every data segment; ours fill a datagram each."""
    for batch in batches:
        for datagram in batch:
            _, cmd, _, _, stamp, number, _, _ = HEADER.unpack_from(datagram.data, 0)
            if cmd == PUSH:
                yield number, stamp


class Tapped:
    """An endpoint with a `Wire` that records its traffic."""

    def __init__(self, engine: Engine, wire: Wire) -> None:
        self._engine, self._wire = engine, wire
        self.deadline_us = engine.deadline_us

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        self._wire.arrived(batch)
        self._engine.receive(batch, now_us)

    def transmit(self, now_us: int) -> Sequence[DatagramBatch]:
        batches = self._engine.transmit(now_us)
        self._wire.left(batches)
        return batches


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. Percentages: `retransmitted` of new segments (as iperf-go shows it), `lost` (timeouts) of all
    transmissions (as iperfpy shows it), `dropped` by the path of all transmissions; `spurious` (by the
    simulator) and `reported` (by the sender) of all retransmissions."""

    goodput_mbps: float
    retransmitted: float
    lost: float
    dropped: float
    spurious: float | None
    reported: float | None
    mean_rtt_ms: float


def run(path: str, transport: str, seconds: float = SECONDS) -> Outcome:
    """Run one of `MAKERS` over one of `PATHS`."""
    simulation, wire = Simulation(seed=1), Wire()
    sender, receiver = MAKERS[transport](), MAKERS[transport]()
    there, back = simulation.link(PATHS[path]), simulation.link(Path(delay_us=RTT_US / 2))
    ends = Tapped(sender, wire), Tapped(receiver, wire)
    flow = simulation.flow(*ends, there, back, Bulk(sender))
    simulation.run(int(seconds * 1e6))
    counts, truth = sender.counts, flow.forward.truth
    resent = counts.lost + counts.early + counts.fast
    return Outcome(
        receiver.receiving.bytes * 8e-6 / seconds,
        100 * resent / (counts.segments_sent - resent),
        100 * counts.lost / counts.segments_sent,
        100 * truth.dropped_share,
        100 * wire.spurious / resent if resent else None,
        100 * sender.recovery.spurious / resent if resent else None,
        sender.rtt.sum_us / max(1, sender.rtt.samples) / 1e3,
    )


HEADING = (
    "| path, 170 ms | transport | Mb/s | retransmitted, % of new segments | Lost(%) | dropped by the path, % "
    "| spurious, % of retransmissions: simulator | as reported | mean RTT, ms | the report |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row(path: str, transport: str, one: Outcome) -> str:
    """Format a row of the table."""
    quoted = REPORTED.get(path, "") if transport == "kcp" else ""
    spurious, reported = ("-" if each is None else f"{each:.1f}" for each in (one.spurious, one.reported))
    return (
        f"| {path} | {transport} | {one.goodput_mbps:.1f} | {one.retransmitted:.1f} | {one.lost:.1f} "
        f"| {one.dropped:.1f} | {spurious} | {reported} | {one.mean_rtt_ms:.0f} | {quoted} |"
    )


def main() -> None:
    print(HEADING)
    for path in PATHS:
        for transport in MAKERS:
            print(row(path, transport, run(path, transport)), flush=True)


if __name__ == "__main__":
    main()
