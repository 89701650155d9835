"""Comparison of our stock KCP with others: the C library, the model of it, the model of kcp-go and our
engine, one after the other over the same simulated paths, with the same seeds and settings.

    python -m tests.protocols.kcp.equivalence               # the table; about four minutes
    python -m tests.protocols.kcp.equivalence --reference   # writes what the tests compare with; a minute

The chain: the model with ikcp's rules sends what the C library sends, byte for byte (tested). With kcp-go's
rules it differs by the fields of `Rules`, each taken from kcp-go 5.6. Our engine is compared with
those. Two of them belong to the ends' applications and not to recovery, and are levelled for all: the reader
takes everything at once (`unread`), and the peer's window is known before the first flight, as the
association of a stream tells it (`first_window`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path as File
from typing import Protocol

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock
from iperfpy.protocols.kcp.settings import MODES, KcpSettings, Tuning
from iperfpy.protocols.simulator import Bulk, Endpoint, Path, Simulation, bdp_bytes
from iperfpy.protocols.simulator.application import Writer
from tests.peers.ikcp import MSS, Ikcp
from tests.peers.stock_kcp_go import IKCP, KCP_GO, Rules, Stock

LOSSES = (0.0, 0.01, 0.05, 0.1, 0.2)
COMPARED = ("fast3", "normal")
SEEDS = tuple(range(1, 6))
REFERENCE = File(__file__).parents[2] / "golden" / "kcp" / "kcp_go_figures.json"
"""Figures of the model of kcp-go, which takes three quarters of the time of a comparison."""
_CONV = 1
_LEAST_WINDOW = 128  # the C library takes no smaller receive window
_BLOCK = bytes(48 * MSS)


class End(Endpoint, Writer, Protocol):
    """An endpoint that an application writes to."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path and the send window, segments, that is used on it."""

    name: str
    rate_bits_per_s: float
    rtt_us: float
    buffer_bdp: float
    window: int

    def ways(self, loss: float) -> tuple[Path, Path]:
        """There, losing after the bottleneck, and back."""
        buffer = bdp_bytes(self.rate_bits_per_s, self.rtt_us, self.buffer_bdp)
        half_us = self.rtt_us / 2
        return Path(self.rate_bits_per_s, buffer, half_us, loss=loss), Path(delay_us=half_us)


SHORT = Route("10 Mb/s, 30 ms, buffer 2 BDP, window 32", 10e6, 30_000, 2, 32)
LONG = Route("20 Mb/s, 60 ms, buffer 1 BDP, window 128", 20e6, 60_000, 1, 128)


@dataclass(frozen=True, slots=True)
class Figures:
    """Bytes delivered and segments sent by an end, summed over seeds. `causes`: lost, early, fast; None if
    the end does not count them."""

    seconds: float
    delivered_bytes: int
    segments: int
    resent: int
    causes: tuple[int, int, int] | None

    @property
    def goodput_mbps(self) -> float:
        return self.delivered_bytes * 8e-6 / self.seconds

    @property
    def resent_percent(self) -> float:
        """Of all data segments sent."""
        return 100 * self.resent / max(1, self.segments)

    def __add__(self, other: Figures) -> Figures:
        causes = None
        if self.causes and other.causes:
            a, b = self.causes, other.causes
            causes = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
        return Figures(
            self.seconds + other.seconds,
            self.delivered_bytes + other.delivered_bytes,
            self.segments + other.segments,
            self.resent + other.resent,
            causes,
        )


def model(rules: Rules) -> Callable[[Tuning, int], End]:
    """The model with these rules, as a maker of ends."""
    return lambda tuning, window: Stock(_CONV, tuning, window, max(window, _LEAST_WINDOW), rules)


def c_library(tuning: Tuning, window: int) -> End:
    return Ikcp(_CONV, tuning, window, max(window, _LEAST_WINDOW))


def ours(tuning: Tuning, window: int) -> End:
    settings = KcpSettings(
        sndwnd=window,
        rcvwnd=max(window, _LEAST_WINDOW),
        nodelay=tuning.nodelay,
        interval=tuning.interval,
        resend=tuning.resend,
        nc=tuning.nc,
    )
    return stock(_CONV, settings)


LEVELLED = replace(KCP_GO, unread=False, first_window=65_535)

ENDS: dict[str, Callable[[Tuning, int], End]] = {
    "ikcp (C)": c_library,
    "model, ikcp": model(IKCP),
    "model, kcp-go": model(LEVELLED),
    "ours": ours,
}


def connect(ends: tuple[End, End], route: Route, loss: float, seed: int) -> Simulation:
    """Bulk data from the first to the second."""
    simulation = Simulation(seed)
    there, back = route.ways(loss)
    application = Bulk(ends[0], pattern=_BLOCK)
    simulation.flow(*ends, simulation.link(there), simulation.link(back), application)
    return simulation


def run(name: str, mode: str, route: Route, loss: float, seed: int, seconds: float) -> Figures:
    """One kind of end, at both ends of one path."""
    make, tuning = ENDS[name], MODES[mode]
    return between(make(tuning, route.window), make(tuning, route.window), route, loss, seed, seconds)


def between(sender: End, receiver: End, route: Route, loss: float, seed: int, seconds: float) -> Figures:
    """Bulk data from one end to the other."""
    connect((sender, receiver), route, loss, seed).run(int(seconds * 1e6))
    if isinstance(sender, Engine) and isinstance(receiver, Engine):
        counts = sender.counts
        causes = (counts.lost, counts.early, counts.fast)
        return Figures(seconds, receiver.receiving.bytes, counts.segments_sent, sum(causes), causes)
    assert isinstance(sender, Ikcp | Stock)
    assert isinstance(receiver, Ikcp | Stock)
    retransmissions = (sender.lost, sender.early, sender.fast) if isinstance(sender, Stock) else None
    tally = sender.tally
    return Figures(
        seconds, receiver.tally.delivered_bytes, tally.segments, tally.retransmitted, retransmissions
    )


def pooled(name: str, mode: str, route: Route, loss: float, seeds: Iterable[int], seconds: float) -> Figures:
    """The sum over seeds."""
    first, *others = (run(name, mode, route, loss, seed, seconds) for seed in seeds)
    for other in others:
        first += other
    return first


@dataclass(frozen=True, slots=True)
class Compared:
    """A case of the tests: the figures of some seeds together, over `SHORT`."""

    mode: str
    loss: float
    seconds: float
    seeds: tuple[int, ...] = (1, 2, 3, 4)

    @property
    def name(self) -> str:
        return f"{self.mode}, loss {self.loss:g}, {self.seconds:g} s, seeds {self.seeds}"

    def figures(self, end: str) -> Figures:
        """Simulate one of `ENDS`."""
        return pooled(end, self.mode, SHORT, self.loss, self.seeds, self.seconds)

    def reference(self) -> Figures:
        """The figures of the model of kcp-go, as they were recorded."""
        fields = json.loads(REFERENCE.read_text())[self.name]
        return Figures(**{**fields, "causes": tuple(fields["causes"])})


CASES = (
    Compared("normal", 0.0, 3.0, (1,)),  # without losses all seeds give the same run
    Compared("fast3", 0.01, 7.0),
    Compared("normal", 0.05, 14.0),
    Compared("fast3", 0.1, 7.0),
    Compared("normal", 0.2, 14.0),
)
"""Long enough that chance moves the sum of four seeds by less than half of the tolerance of a tenth."""
RECHECKED = Compared("fast3", 0.1, 2.0, (1,))
"""A short case that is simulated in each run: another result shows that the recorded ones are out of date."""


def write_reference() -> None:
    """Record the figures of the model of kcp-go."""
    recorded = {case.name: asdict(case.figures("model, kcp-go")) for case in (*CASES, RECHECKED)}
    REFERENCE.write_text(json.dumps(recorded, indent=1) + "\n")


def _job(job: tuple[str, str, Route, float]) -> Figures:
    return pooled(*job, SEEDS, 20.0)


def table() -> Iterator[str]:
    """The lines of the table, as they are known."""
    head = f"{'mode':7}{'loss':>5}  "
    for name in ENDS:
        head += f"{name:>13} {'resent':>7}"
    head += f"{'':4}ours against kcp-go: goodput, resent; its lost/early/fast"
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for route in (SHORT, LONG):
            yield f"\n{route.name}; Mb/s, and resent per 100 segments sent; {len(SEEDS)} seeds of 20 s"
            yield head
            cases = [(mode, loss) for mode in COMPARED for loss in LOSSES]
            results = pool.map(_job, [(name, mode, route, loss) for mode, loss in cases for name in ENDS])
            for mode, loss in cases:
                yield _line(mode, loss, [next(results) for _ in ENDS])


def _line(mode: str, loss: float, figures: list[Figures]) -> str:
    cells = "".join(f"{each.goodput_mbps:13.2f} {each.resent_percent:6.2f}%" for each in figures)
    reference, mine = figures[-2:]
    goodput = 100 * (mine.goodput_mbps / reference.goodput_mbps - 1)
    resent = f"{100 * (mine.resent / reference.resent - 1):+6.1f}%" if reference.resent else "   none"
    causes = "/".join(map(str, mine.causes or ()))
    return f"{mode:7}{100 * loss:4.0f}%  {cells}    {goodput:+6.1f}% {resent}  {causes}"


def main() -> None:
    if sys.argv[1:] == ["--reference"]:
        write_reference()
        return
    for line in table():
        print(line, flush=True)


if __name__ == "__main__":
    main()
