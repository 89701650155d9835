"""The latency test of ikcp (test.cpp of skywind3000/kcp) in the simulator, with the C library and our engine.

    path       30 to 62 ms a way, order kept; each way loses 5 of every 100 datagrams, from a shuffled deck
    messages   1,000 of 8 bytes, each 20 ms, a millisecond before a tick; echoed by the other end
    ends       windows of 128 segments, ticks of 10 ms; data and ACKs leave at ticks

Published means: 740 ms (default), 156 ms (normal), 138 ms (fast). That test, compiled from its history with a
clock that counts its sleeps, gives over 20 seeds:

    version           default    normal    fast
    2012 to 08/2015       624       158     137     the window grows by one with each ACK: a comparison is
                                                    inverted (fixed by commit 879bc23)
    09/2015 to 2020     5,720       156     137
    today               3,919       161     138

So the published mean of the default mode is one run of the version before September 2015; its single runs
lie between 431 and 796 ms; `GrowsByOne` is its rule. Of the other modes our engine follows kcp-go, which
sends again early where ikcp does not; `early=False` is ikcp's rule.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from iperfpy.protocols.congestion.congestion_control import Ack
from iperfpy.protocols.congestion.stock_kcp import StockCongestionControl
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.engine_factory import stock
from iperfpy.protocols.kcp.settings import KcpSettings, Tuning
from iperfpy.protocols.simulator import Endpoint, Path, Simulation
from iperfpy.protocols.simulator.application import Writer
from iperfpy.protocols.simulator.message_application import Bytes, Echoes, Messages
from tests.peers.ikcp import Ikcp

PUBLISHED_MS = {"default": 740.0, "normal": 156.0, "fast": 138.0}
TODAY_MS = {"default": 3_919.0, "normal": 160.9, "fast": 137.7}
SEEDS = range(20)
SHARE = 0.10
"""Largest difference of the mean of all seeds from the published one, as a share of it."""
MODES = {"default": Tuning(0, 10, 0, 0), "normal": Tuning(0, 10, 0, 1), "fast": Tuning(1, 10, 2, 1)}
WINDOW, COUNT, INTERVAL_US, SIZE_BYTES = 128, 1_000, 20_000, 8
START_US = 19_000
DECK, LOST_OF_DECK = 100, 5
LONGEST_S = 60

Deliver = Callable[[Bytes], None]


class Deck:
    """Losses from a shuffled deck: of every 100 datagrams exactly five."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._cards: list[int] = []

    def loses(self) -> bool:
        if not self._cards:
            self._cards = list(range(DECK))
            self._random.shuffle(self._cards)
        return self._cards.pop() < LOST_OF_DECK


class LosesByDeck:
    """An endpoint that loses its datagrams on their way out."""

    def __init__(self, inner: Endpoint, deck: Deck) -> None:
        self._inner, self._deck = inner, deck

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        self._inner.receive(batch, now_us)

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        kept = []
        for batch in self._inner.transmit(now_us):
            kept += [DatagramBatch.of(each.copy(), len(each)) for each in batch if not self._deck.loses()]
        return kept

    def deadline_us(self) -> int | None:
        return self._inner.deadline_us()


class MessageIkcp(Ikcp):
    """The C library with messages: each write is one, and what arrives is handed on."""

    def __init__(self, tuning: Tuning, deliver: Deliver) -> None:
        super().__init__(1, tuning, WINDOW, WINDOW)
        self._deliver = deliver

    def write(self, data: memoryview, now_us: int) -> int:
        self._kcp.enqueue(bytes(data))
        return len(data)

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        for view in batch:
            self._tick(now_us)
            self._kcp.receive(view.tobytes())
            for piece in self._kcp.get_all_received():
                self._deliver(np.frombuffer(bytes(piece), np.uint8))


class GrowsByOne(StockCongestionControl):
    """ikcp's congestion control before September 2015: the window grows by one with each ACK."""

    def on_ack(self, ack: Ack) -> None:
        if ack.advanced:
            self._open(self._window + 1)


def c_library(tuning: Tuning, deliver: Deliver) -> MessageIkcp:
    return MessageIkcp(tuning, deliver)


@dataclass(frozen=True)
class Ours:
    """Makes our engine as an end of the test; parameters as the file's head says."""

    early: bool = True
    grows_by_one: bool = False

    def __call__(self, tuning: Tuning, deliver: Deliver) -> End:
        settings = KcpSettings(
            sndwnd=WINDOW,
            rcvwnd=WINDOW,
            nodelay=tuning.nodelay,
            interval=tuning.interval,
            resend=tuning.resend,
            nc=tuning.nc,
            push=True,
            ack_delay=True,
            write_delay=True,
        )
        engine = stock(1, settings, deliver, boundaries=True, early=self.early)
        if self.grows_by_one and not tuning.nc:
            engine.steer(GrowsByOne(tuning.resend))
        return engine


class End(Endpoint, Writer, Protocol):
    """An end that an application writes to."""


Make = Callable[[Tuning, Deliver], "End | MessageIkcp"]


def round_trips(make: Make, mode: str, seed: int) -> Sequence[float]:
    """Milliseconds of every message of one run."""
    applications: list[Messages | Echoes] = []

    def deliver_to(index: int) -> Deliver:
        return lambda payload: applications[index].arrived(payload)

    ends = [make(MODES[mode], deliver_to(index)) for index in range(2)]
    talk = Messages(ends[0], COUNT, INTERVAL_US, SIZE_BYTES, start_us=START_US)
    applications += [talk, Echoes(ends[1], SIZE_BYTES)]
    simulation = Simulation(seed, coalesce_us=1_000)
    way = Path(delay_us=30_000, jitter_us=32_000)
    client, server = (LosesByDeck(end, Deck(2 * seed + index)) for index, end in enumerate(ends))
    simulation.flow(client, server, simulation.link(way), simulation.link(way), talk, answers=applications[1])
    end_us = COUNT * INTERVAL_US
    while not talk.is_answered and end_us <= LONGEST_S * 1_000_000:
        end_us += 1_000_000
        simulation.run(end_us)
    assert talk.is_answered
    return [float(each) / 1e3 for each in talk.round_trip_us]


def mean_ms(make: Make, mode: str, seeds: Iterable[int]) -> float:
    """The mean of the means of the seeds."""
    return float(np.mean([np.mean(round_trips(make, mode, seed)) for seed in seeds]))


@dataclass(frozen=True)
class Row:
    """The means of one kind of end by mode, milliseconds, as far as they were measured. `golden`: the modes
    in which they must be the published ones; in others its rules are not those of the published version."""

    title: str
    means_ms: Mapping[str, float]
    golden: tuple[str, ...] = ()

    @property
    def differs(self) -> list[str]:
        """The golden modes with a mean that is not within `SHARE` of the published one."""
        means, published = self.means_ms, PUBLISHED_MS
        return [mode for mode in self.golden if abs(means[mode] / published[mode] - 1) > SHARE]

    def text(self) -> str:
        """The line of the table."""
        means = (f"{self.means_ms[mode]:.1f}" if mode in self.means_ms else "-" for mode in MODES)
        cells = "".join(f"{mean:>9}" for mean in means)
        return f"{self.title:26}{cells}" + (f"  MISS {', '.join(self.differs)}" if self.differs else "")


def measured_rows(seeds: Sequence[int] = SEEDS) -> Iterator[Row]:
    """The rows of the table."""
    yield Row("published", PUBLISHED_MS)
    yield Row("its program today", TODAY_MS)
    whole = tuple(MODES)
    makers: tuple[tuple[str, Make, tuple[str, ...], tuple[str, ...]], ...] = (
        ("C library", c_library, whole, ("normal", "fast")),
        ("ours (kcp-go's rules)", Ours(), whole, ("fast",)),
        ("ours, not early", Ours(early=False), whole, ("normal", "fast")),
        # The other modes have no congestion control.
        ("ours, window grows by one", Ours(early=False, grows_by_one=True), whole[:1], whole[:1]),
    )
    for title, make, modes, golden in makers:
        yield Row(title, {mode: mean_ms(make, mode, seeds) for mode in modes}, golden)


def main() -> int:
    """Print the means of 20 seeds. The exit status is 1 if a golden one is not as published."""
    print(f"{f'mean of {len(SEEDS)} seeds, ms':26}" + "".join(f"{mode:>9}" for mode in MODES))
    rows = []
    for row in measured_rows():
        rows.append(row)
        print(row.text(), flush=True)
    return 1 if any(row.differs for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
