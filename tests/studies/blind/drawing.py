"""Draws paths with known causes: a seed gives a path with none, one, or two of them.

    draw(7).kinds, draw(7).truth

The kinds follow from the seed in turn, so that neighbouring seeds cover all of them evenly; every other
property is random. The truth is read off the properties, not off the kinds: a buffer that is deep for its
path is a queue, by whichever property it came.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import exp, log
from typing import Any

from iperfpy.diagnosis.finding import Cause
from iperfpy.protocols.simulator.path import Bursts, CoDel, Lumps, Path, RateWalk, SecondWay

RATES = (1e6, 300e6)
RTTS_US = (5e3, 300e3)
PACKET = 1_500
"""IP packet bytes of a full datagram of the experiment."""
BULK_PACKET = 1_428
FAIR_QUEUE_US, FAIR_QUEUE_RTTS = 5e3, 0.2
"""A queue that adds no more than the larger of the two is a line's."""
MTU_HINT = 1_500
SMALLEST_WINDOW = 16
"""Of KCP, segments."""


@dataclass(slots=True)
class BlindPath:
    """One drawn path.

    Attributes
    ----------
    kinds : kinds that were drawn
    rate : bits per second that the forward direction carries in the long run, IP packets
    truth : cause -> its true figures
    send_window, receive_window : segments of the bulk flows' windows, None: the transport's own
    application : rate of their application in bits per second, None: without end
    filtered : properties of the forward direction that hold for UDP alone
    reads_per_s, reader_room : packets per second that the receiving machine takes, and packets of its socket
        buffer; None: it takes all
    stock_window : segments of a flow of stock KCP in place of kcp-bbr; None: kcp-bbr
    both_ways : True if both directions are measured and compared
    """

    seed: int
    kinds: tuple[str, ...]
    rng: random.Random
    rate: float
    rtt_us: float
    there: dict[str, Any] = field(default_factory=dict)
    back: dict[str, Any] = field(default_factory=dict)
    truth: dict[Cause, dict[str, float]] = field(default_factory=dict)
    send_window: int | None = None
    receive_window: int | None = None
    application: float | None = None
    filtered: dict[str, Any] = field(default_factory=dict)
    reads_per_s: float | None = None
    reader_room: int = 0
    stock_window: int | None = None
    both_ways: bool = False

    @property
    def forward(self) -> Path:
        """The way of the data."""
        return Path(delay_us=self.rtt_us / 2, **{**self.there, **self.filtered})

    @property
    def unfiltered(self) -> Path:
        """The way of the data for anything but UDP."""
        return Path(delay_us=self.rtt_us / 2, **self.there)

    @property
    def rounds(self) -> int:
        """Rounds of TCP, KCP and UDP that are compared; 0: no TCP."""
        return 3 if self.filtered or self.both_ways else 0

    @property
    def reversed(self) -> BlindPath:
        """The other direction, as a path of its own."""
        rate = float(self.back["rate_bits_per_s"])
        return BlindPath(
            self.seed + _OTHER_WAY, (), self.rng, rate, self.rtt_us, dict(self.back), dict(self.there)
        )

    @property
    def backward(self) -> Path:
        """The way of the answers."""
        return Path(delay_us=self.rtt_us / 2, **self.back)

    @property
    def name(self) -> str:
        """One line with the kinds and the main properties."""
        ways = {
            **self.there,
            **{f"back_{key}" if key in self.there else key: value for key, value in self.back.items()},
        }
        ways |= {f"udp_{key}": value for key, value in self.filtered.items()}
        properties = ", ".join(f"{key}={value}" for key, value in ways.items())
        windows = ", ".join(
            f"{key}={value:.0f}"
            for key in ("send_window", "receive_window", "application", "reads_per_s", "stock_window")
            if (value := getattr(self, key)) is not None
        )
        return (
            f"{self.seed} {'+'.join(self.kinds) or 'none'}: {self.rate / 1e6:.1f} Mb/s,"
            f" {self.rtt_us / 1e3:.0f} ms; {properties} {windows}"
        )

    def between(self, low: float, high: float) -> float:
        """Draw log-uniformly."""
        return exp(self.rng.uniform(log(low), log(high)))

    @property
    def fair_us(self) -> float:
        """Delay up to which a full queue is a line's."""
        return max(FAIR_QUEUE_US, FAIR_QUEUE_RTTS * self.rtt_us)

    @property
    def packet_us(self) -> float:
        """Service time of a full packet."""
        return PACKET * 8e6 / self.rate

    @property
    def sent(self) -> float:
        """Packets that the experiment sends below the path's rate, about."""
        return 15.0 * self.rate / (8 * PACKET)

    @property
    def bdp(self) -> float:
        """Bandwidth-delay product in bytes."""
        return self.rate * self.rtt_us / 8e6


def _queue(path: BlindPath) -> None:
    most_us = min(1.2e6, max(8 * path.fair_us, 3 * path.rtt_us))
    wait_us = path.between(max(2.0 * path.fair_us, 12 * path.packet_us), max(most_us, 30 * path.packet_us))
    path.there["buffer_bytes"] = int(path.rate * wait_us / 8e6)


def _aqm(path: BlindPath) -> None:
    path.there["buffer_bytes"] = int(path.rate * max(0.5e6, 4 * path.rtt_us) / 8e6)
    target_us = max(5e3, 1.5 * path.packet_us)
    path.there["codel"] = CoDel(target_us, 20 * target_us)


def _policer(path: BlindPath) -> None:
    rate, line = path.rate, path.rate * path.between(2.5, 10.0)
    burst_us = path.between(20e3, 800e3)
    path.there["police_bits_per_s"] = rate
    path.there["bucket_bytes"] = max(10 * PACKET, int(rate * burst_us / 8e6))
    path.there["rate_bits_per_s"] = line
    path.there["buffer_bytes"] = max(20 * PACKET, int(line * 0.4 * path.fair_us / 8e6))


def _noise(path: BlindPath) -> None:
    path.there["loss"] = path.between(max(0.004, 12 / path.sent), 0.12)


def _bursts(path: BlindPath) -> None:
    # 60 bursts in the whole experiment, so that about 40 are seen below the path's rate.
    length = path.between(3.0, max(3.5, min(12.0, 0.15 * path.sent / 60)))
    least = max(0.006, 60 * length / path.sent)
    path.there["bursts"] = Bursts.averaging(path.between(least, max(1.2 * least, 0.08)), length)


def _reordering(path: BlindPath) -> None:
    share = path.between(max(0.004, 15 / path.sent), 0.2)
    extra_us = max(path.between(1.5e3, 0.4 * path.rtt_us + 5e3), 3 * path.packet_us)
    if path.rng.random() < 0.5:
        path.there["second_way"] = SecondWay(extra_us, share)
    else:
        path.there.update(reorder=share, reorder_us=2 * extra_us)


def _jitter(path: BlindPath) -> None:
    path.there["jitter_us"] = max(path.between(8e3, 60e3), 0.5 * path.rtt_us * path.rng.uniform(0.3, 1))


def _lumps(path: BlindPath) -> None:
    most_us = path.between(15e3, 60e3)
    way = path.back if path.rng.random() < 0.7 else path.there
    way["lumps"] = Lumps(most_us * path.rng.uniform(0.5, 1.0), most_us)


def _rate_varies(path: BlindPath) -> None:
    path.there["rate_walk"] = RateWalk(
        path.between(30e3, 200e3), path.rng.uniform(0.25, 0.5), path.rng.uniform(0.0, 0.6)
    )
    # Behind such a rate stands a deep buffer, as on a cellular link.
    path.there["buffer_bytes"] = int(path.rate * max(0.15e6, 1.5 * path.rtt_us) / 8e6)


def _mtu(path: BlindPath) -> None:
    path.there["maxlen"] = path.rng.choice((1_252, 1_372, 1_392, 1_422, 1_462))


def _receive_window(path: BlindPath) -> None:
    path.receive_window = _window(path)


def _send_window(path: BlindPath) -> None:
    path.send_window = _window(path)


def _window(path: BlindPath) -> int:
    return max(SMALLEST_WINDOW, int(path.rng.uniform(0.25, 0.65) * path.bdp / BULK_PACKET))


def _application(path: BlindPath) -> None:
    path.application = path.rng.uniform(0.2, 0.7) * path.rate * (1_376 / BULK_PACKET)


def _asymmetry(path: BlindPath) -> None:
    factor = path.between(1.6, 6.0)
    rates = [rate for rate in (path.rate * factor, path.rate / factor) if RATES[0] <= rate <= RATES[1]]
    path.both_ways = True
    _way_back(path, path.rng.choice(rates) if rates else path.rate * factor)


def _way_back(path: BlindPath, rate: float) -> None:
    """Give the way back a rate, and a queue that is no cause."""
    wait_us = max(0.5 * path.fair_us, 8 * PACKET * 8e6 / rate)
    path.back |= {"rate_bits_per_s": rate, "buffer_bytes": int(rate * wait_us / 8e6)}


def _datagrams_differ(path: BlindPath) -> None:
    if path.rng.random() < 0.5:
        path.filtered["loss"] = path.rng.uniform(0.25, 0.4)
        return
    # UDP alone is policed: to UDP, that is the path.
    path.rate *= path.rng.uniform(0.25, 0.6)
    burst = max(10 * PACKET, int(path.rate * path.between(20e3, 400e3) / 8e6))
    path.filtered |= {"police_bits_per_s": path.rate, "bucket_bytes": burst}


def _processor(path: BlindPath) -> None:
    path.reads_per_s = path.rng.uniform(0.3, 0.7) * path.rate / 8 / BULK_PACKET
    path.reader_room = max(20, int(0.02 * path.reads_per_s))


def _spurious(path: BlindPath) -> None:
    # The queue holds a whole window, which waits there for longer than the first timeouts.
    path.stock_window = max(64, min(4_096, int(path.rate * path.between(0.6, 2.5) / 8 / BULK_PACKET)))
    path.there["buffer_bytes"] = int(4 * path.stock_window * BULK_PACKET)


LATER_KINDS: Mapping[str, Callable[[BlindPath], None]] = {
    "asymmetry": _asymmetry,
    "udp-differs": _datagrams_differ,
    "processor": _processor,
    "spurious": _spurious,
}
LATER = 1_401
"""First seed that has these kinds. Earlier seeds give the paths of the records."""
_OTHER_WAY = 1_000_000
"""Distance of the seeds of the two directions' random draws."""
KINDS: Mapping[str, Callable[[BlindPath], None]] = {
    "queue": _queue,
    "aqm": _aqm,
    "policer": _policer,
    "noise": _noise,
    "bursts": _bursts,
    "reordering": _reordering,
    "jitter": _jitter,
    "lumps": _lumps,
    "rate-varies": _rate_varies,
    "mtu": _mtu,
    "receive-window": _receive_window,
    "send-window": _send_window,
    "application": _application,
}
_EXCLUDE = (
    {"queue", "aqm", "policer", "rate-varies"},
    {"noise", "bursts"},
    {"jitter", "lumps", "reordering"},
    {"receive-window", "send-window", "application"},
)
"""Of each set a path has one kind at most."""
_WITH_LATER = {"asymmetry": ("noise", "jitter", "mtu"), "udp-differs": ("queue", "jitter")}
"""Kinds that form pairs with later ones."""
PAIRS = [pair for pair in combinations(KINDS, 2) if not any(set(pair) <= excluded for excluded in _EXCLUDE)]
_ORDER = random.Random(0)
_ORDER.shuffle(PAIRS)
LATER_PAIRS = [*PAIRS, *((other, kind) for kind, others in _WITH_LATER.items() for other in others)]
_ORDER.shuffle(LATER_PAIRS)


def kinds_of(seed: int) -> tuple[str, ...]:
    """Give the kinds of a seed: alone and in pairs in turn, and none for each tenth."""
    if seed % 10 == 0:
        return ()
    number = seed // 10 * 9 + seed % 10 - 1
    alone, pairs = (list(KINDS), PAIRS) if seed < LATER else ([*KINDS, *LATER_KINDS], LATER_PAIRS)
    return pairs[number // 2 % len(pairs)] if number % 2 else (alone[number // 2 % len(alone)],)


def draw(seed: int) -> BlindPath:
    """Draw the path of a seed."""
    rng = random.Random(f"blind {seed}")
    path = BlindPath(seed, kinds_of(seed), rng, 0.0, 0.0)
    path.rate, path.rtt_us = path.between(*RATES), path.between(*RTTS_US)
    if {"receive-window", "send-window"} & set(path.kinds):
        # A window below the bandwidth-delay product must have some segments.
        while path.bdp < 4 * SMALLEST_WINDOW * BULK_PACKET:
            path.rate, path.rtt_us = path.between(*RATES), path.between(*RTTS_US)
    wait_us = path.rng.uniform(0.25, 0.7) * path.fair_us
    path.there["rate_bits_per_s"] = path.rate
    least_us = 8 * path.packet_us
    # Some datagrams must fit; a buffer between deep and shallow is made deep.
    if wait_us < least_us:
        wait_us = least_us if least_us < 0.7 * path.fair_us else max(least_us, 1.4 * path.fair_us)
    path.there["buffer_bytes"] = int(path.rate * wait_us / 8e6)
    for kind in path.kinds:
        {**KINDS, **LATER_KINDS}[kind](path)
    if not path.kinds and seed >= LATER:
        # Paths with equal directions, on which UDP is treated as TCP is.
        path.both_ways = True
        _way_back(path, path.rate)
    path.truth.update(truth_of(path))
    return path


def truth_of(path: BlindPath) -> dict[Cause, dict[str, float]]:
    """Read the causes off the properties of a path, with their figures."""
    there = {**path.there, **path.filtered}
    truth: dict[Cause, dict[str, float]] = {}
    window = path.send_window or path.stock_window
    # That of stock KCP fills the queue on most paths, and is less than the path itself holds on a few.
    if window and (path.send_window or window * BULK_PACKET * 8e6 / path.rtt_us < path.rate):
        truth[Cause.SEND_WINDOW] = {"segments": window}
    if path.receive_window:
        truth[Cause.RECEIVE_WINDOW] = {"segments": path.receive_window}
    if path.reads_per_s:
        # The machine is slower than the path, so nothing shows a property of an overloaded path.
        return {Cause.PROCESSOR: {"packets_per_s": path.reads_per_s}}
    if path.filtered:
        truth[Cause.DATAGRAMS_DIFFER] = {}
    if path.both_ways and path.back["rate_bits_per_s"] != path.rate:
        back = path.back["rate_bits_per_s"]
        truth[Cause.ASYMMETRY] = {"ratio": max(path.rate, back) / min(path.rate, back)}
    if path.application:
        truth[Cause.APPLICATION] = {"bits_per_s": path.application}
    if "police_bits_per_s" in there:
        truth[Cause.POLICER] = {"rate_bits_per_s": path.rate, "burst_bytes": there["bucket_bytes"]}
    elif "codel" in there:
        truth[Cause.QUEUE] = {"aqm": 1}
    elif there["buffer_bytes"] * 8e6 / path.rate > path.fair_us:
        truth[Cause.QUEUE] = {"aqm": 0, "queue_bytes": there["buffer_bytes"]}
    if "loss" in there:
        truth[Cause.NOISE] = {"share": there["loss"]}
    if "bursts" in there:
        truth[Cause.BURSTS] = {"share": there["bursts"].average, "length": 1 / there["bursts"].leave}
    if "second_way" in there or "reorder" in there:
        truth[Cause.REORDERING] = {}
    if "jitter_us" in there:
        truth[Cause.JITTER] = {"spread_us": there["jitter_us"]}
    for way in (there, path.back):
        if "lumps" in way:
            truth[Cause.ACK_LUMPS] = {"lump_us": (way["lumps"].least_us + way["lumps"].most_us) / 2}
    if "rate_walk" in there:
        truth[Cause.RATE_VARIES] = {}
    if "maxlen" in there:
        truth[Cause.MTU] = {"mtu_bytes": there["maxlen"] + 28}
    if truth.keys() <= {Cause.ASYMMETRY}:
        truth[Cause.LINE] = {}  # the limit of this direction, however the other one differs
    return truth
