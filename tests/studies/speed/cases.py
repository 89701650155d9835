"""The rows of the speed study: contestants, figures and targets."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

from iperfpy.protocols.registry import transports
from tests.studies.speed.contestants import Command, Contestant, Module
from tests.studies.speed.programs import (
    GO_PROGRAMS,
    MTU,
    KcpGo,
    ceiling,
    iperf2,
    iperf3,
    iperfpy,
    kcpgo_library,
    ours,
)
from tests.studies.speed.summary import Row
from tests.studies.speed.watch import SMOOTH_BPS, Bins, Meter, no_capture

NO_OFFLOAD = {"IPERFPY_NO_OFFLOAD": "1"}
SHORT_WINDOW, LONG_WINDOW = 512, 65_000
SHORTEST_WATCHED_S = 4.0
FEW_ROUNDS = 3
STREAM_COUNTS = (1, 4, 16, 64, 128)
KEPT = 0.8
"""Share of a transport's best total that it keeps with any number of streams."""
FAIR = 0.9
"""Jain's index of the streams of one test: (sum x)^2 / (n sum x^2)."""
_BARE, _BARE_PLAIN = "bare datagrams", "bare datagrams, no offload"


@dataclass(frozen=True, slots=True)
class Group:
    """Contestants that take turns (A B C A B C ...), and the rows made of their figures."""

    title: str
    contestants: tuple[Contestant, ...]
    rows: tuple[Row, ...]
    at_least_s: float = 0.0
    most_rounds: int = 0
    """Above 0: the most rounds of this group, for figures that vary little or have no peer."""

    def only(self, patterns: tuple[str, ...]) -> Group | None:
        """Keep the rows that the patterns name, and the contestants that they need; None if no row is
        left."""
        rows = tuple(row for row in self.rows if _named(row.key, patterns))
        needed = {name for row in rows for name in row.contestants}
        contestants = tuple(one for one in self.contestants if one.name in needed)
        return dataclasses.replace(self, contestants=contestants, rows=rows) if rows else None


def _named(key: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(
        fnmatchcase(key, pattern) or key == pattern or key.startswith(pattern + "/") for pattern in patterns
    )


def congestion_controls() -> list[str]:
    """Congestion controls of the kernel with which both programs are compared."""
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    return [name for name in ("cubic", "bbr") if known.exists() and name in known.read_text().split()]


def tcp(congestion: str) -> Group:
    flags = ("-C", congestion)
    contestants = (
        ours("iperfpy", *flags),
        iperf3("iperf3", *flags),
        ours("iperfpy -R", *flags, "-R"),
        iperf3("iperf3 -R", *flags, "-R"),
        iperf2("iperf2", "-Z", congestion),
    )
    key, title = f"tcp-{congestion}", f"TCP {congestion}"
    return Group(
        title,
        contestants,
        (
            Row(f"{key}/forward", f"{title} forward", "bits_per_s", "iperfpy", "iperf3", 1.0, 1.2),
            Row(f"{key}/reverse", f"{title} reverse", "bits_per_s", "iperfpy -R", "iperf3 -R", 1.0, 1.2),
            Row(f"{key}/iperf2", f"{title} forward, iperf2", "bits_per_s", "iperfpy", "iperf2"),
            _cpu(f"{key}/cpu", f"{title} forward", "iperfpy", "iperf3", 1.0, 0.8),
            _cpu(f"{key}/cpu-reverse", f"{title} reverse", "iperfpy -R", "iperf3 -R", 1.0, 0.8),
            Row(
                f"{key}/cpu-whole",
                f"{title} forward, CPU per GB, start and end included",
                "whole_cpu_s_per_gb",
                "iperfpy",
                "iperf3",
                less_is_better=True,
            ),
        ),
    )


def _cpu(key: str, title: str, mine: str, theirs: str, limit: float, aim: float) -> Row:
    return Row(key, f"{title}, CPU per GB", "cpu_s_per_gb", mine, theirs, limit, aim, less_is_better=True)


def tcp_parallel(streams: int = 16) -> Group:
    many = ("-P", str(streams))
    mine, theirs = f"iperfpy -P {streams}", f"iperf3 -P {streams}"
    key, title = "tcp-parallel", f"TCP -P {streams}"
    return Group(
        title,
        (
            ours(mine, *many),
            iperf3(theirs, *many),
            ours(f"{mine} -R", *many, "-R"),
            iperf3(f"{theirs} -R", *many, "-R"),
        ),
        (
            Row(f"{key}/forward", f"{title} forward, total", "bits_per_s", mine, theirs, 1.0, 1.2),
            Row(
                f"{key}/reverse",
                f"{title} reverse, total",
                "bits_per_s",
                f"{mine} -R",
                f"{theirs} -R",
                1.0,
                1.2,
            ),
            _cpu(f"{key}/cpu", f"{title} forward", mine, theirs, 1.0, 0.8),
        ),
    )


def tcp_without_copies(congestion: str) -> Group:
    flags = ("-C", congestion, "-Z")
    both = (*flags, "--skip-rx-copy")
    title = f"TCP {congestion}"
    return Group(
        f"{title}, fewer copies",
        (
            ours("iperfpy -Z", *flags),
            iperf3("iperf3 -Z", *flags),
            ours("iperfpy -Z --skip-rx-copy", *both),
            iperf3("iperf3 -Z --skip-rx-copy", *both),
        ),
        (
            Row("tcp-zerocopy/send", f"{title} -Z", "bits_per_s", "iperfpy -Z", "iperf3 -Z", 1.0, 1.3),
            Row(
                "tcp-zerocopy/both",
                f"{title} -Z --skip-rx-copy",
                "bits_per_s",
                "iperfpy -Z --skip-rx-copy",
                "iperf3 -Z --skip-rx-copy",
                1.0,
                1.3,
            ),
            Row(
                "tcp-zerocopy/gain",
                f"{title} -Z --skip-rx-copy, against -Z",
                "bits_per_s",
                "iperfpy -Z --skip-rx-copy",
                "iperfpy -Z",
            ),
        ),
    )


def udp() -> Group:
    """Datagrams without a rate limit; the receiver's count is the figure."""
    flags = ("-b", "0", "-l", str(MTU))
    pairs = [
        (
            ours(f"iperfpy udp{end}", "--proto", "udp", *flags, *way),
            iperf3(f"iperf3 -u{end}", "-u", *flags, *way),
        )
        for end, way in (("", ()), (" -R", ("-R",)))
    ]
    rows = [
        row
        for (mine, theirs), way in zip(pairs, ("forward", "reverse"), strict=True)
        for row in (
            Row(f"udp/{way}", f"UDP {way}, received", "bits_per_s", mine.name, theirs.name, 4.0),
            _cpu(f"udp/cpu-{way}", f"UDP {way}", mine.name, theirs.name, 1.0, 0.8),
        )
    ]
    bare = ceiling(_BARE)
    rows.append(
        Row("udp/ceiling", "UDP, against bare datagrams", "bits_per_s", pairs[0][0].name, bare.name, 0.9, 1.0)
    )
    contestants = (*(one for pair in pairs for one in pair), bare)
    return Group(f"UDP, {MTU}-byte datagrams", contestants, tuple(rows))


def smooth() -> Group:
    """Evenness of a rate-limited sender of datagrams."""
    flags = ("-b", f"{SMOOTH_BPS // 1_000_000}M", "-l", str(MTU))
    mine, theirs = f"iperfpy udp {flags[0]} {flags[1]}", f"iperf3 -u {flags[0]} {flags[1]}"
    what = ": worst 10 ms of a second"
    return Group(
        "Smoothness",
        (
            ours(mine, "--proto", "udp", *flags, watch=Bins, why_missing=no_capture),
            iperf3(theirs, "-u", *flags, watch=Bins),
        ),
        (
            _steady("smooth/udp", f"{mine}{what}", "worst_bin_percent", mine, 20, None),
            Row("smooth/iperf3", f"{theirs}{what}", "worst_bin_percent", theirs, less_is_better=True),
        ),
        at_least_s=SHORTEST_WATCHED_S,
        most_rounds=FEW_ROUNDS,
    )


def kcp() -> Group:
    def row(key: str, what: str, mine: str, theirs: str, limit: float | None, aim: float | None) -> Row:
        return Row(f"kcp/{key}", what, "bits_per_s", mine, theirs, limit, aim)

    return Group(
        "KCP over loopback",
        (
            ours("kcp", "--proto", "kcp"),
            KcpGo("kcp-go"),
            ours("kcp-bbr", "--proto", "kcp-bbr"),
            ceiling(_BARE),
            ours("kcp -P 16", "--proto", "kcp", "-P", "16"),
            ours("kcp-bbr -P 16", "--proto", "kcp-bbr", "-P", "16"),
            ours("kcp, no offload", "--proto", "kcp", env=NO_OFFLOAD),
            ceiling(_BARE_PLAIN, env=NO_OFFLOAD),
        ),
        (
            row("stock", "kcp, one stream", "kcp", "kcp-go", 10, 25),
            row("bbr", "kcp-bbr, one stream", "kcp-bbr", "kcp-go", 8, 20),
            row("ceiling", "kcp, against bare datagrams", "kcp", _BARE, 0.2, 0.5),
            row("no-offload", "kcp without GSO/GRO", "kcp, no offload", "kcp-go", 1, 2),
            row("no-offload-ceiling", "the same, against bare", "kcp, no offload", _BARE_PLAIN, None, None),
            _cpu("kcp/cpu", "kcp", "kcp", "kcp-go", 0.1, 0.04),
            _cpu("kcp/cpu-bbr", "kcp-bbr", "kcp-bbr", "kcp-go", 0.1, 0.04),
            row("parallel", "kcp -P 16, total", "kcp -P 16", "kcp", 0.8, 1.0),
            row("parallel-bbr", "kcp-bbr -P 16, total", "kcp-bbr -P 16", "kcp-bbr", 0.8, 1.0),
        ),
    )


def envelope() -> list[Group]:
    """Forward error correction and encryption: the layers alone, and one stream over loopback.

    Debian's kcp-go has no AES-GCM: its AES-CFB, with keys of 128 bits, stands beside ours. A newer one of
    IPERFPY_KCPGO has it.
    """
    key, secret = {"IPERFPY_KCP_KEY": "it's a secrect"}, "it's a secrect"

    def go(name: str, *flags: str) -> KcpGo:
        return KcpGo(f"kcp-go {name}", envelope=(*flags, "-key", secret))

    has_gcm = bool(os.environ.get(GO_PROGRAMS)) and "aes-128-gcm" in kcpgo_library().ciphers
    gcm = "aes-128-gcm" if has_gcm else "aes-128"
    streams = (
        ours("kcp 10:3", "--proto", "kcp", "--kcp-fec", "10:3"),
        go("10:3", "-ds", "10", "-ps", "3"),
        ours("kcp aes", "--proto", "kcp", "--kcp-crypt", "aes", env=key),
        go("aes", "-crypt", "aes"),
        ours("kcp aes-128-gcm", "--proto", "kcp", "--kcp-crypt", "aes-128-gcm", env=key),
        go(gcm, "-crypt", gcm),
    )
    pairs = (("fec", "kcp 10:3", "kcp-go 10:3", None),
             ("aes", "kcp aes", "kcp-go aes", 4e9),
             ("gcm", "kcp aes-128-gcm", f"kcp-go {gcm}", 6e9))  # fmt: skip
    rows = []
    for key_, mine, theirs, least in pairs:
        rows.append(_cpu(f"envelope/{key_}-cpu", mine, mine, theirs, 0.25, 0.1))
        rows.append(Row(f"envelope/{key_}", f"{mine}, one stream", "bits_per_s", mine, theirs, 4, 10))
        if least is not None:
            rows.append(Row(f"envelope/{key_}-rate", f"{mine}, one stream", "bits_per_s", mine, None, least))
    return [Group("KCP's envelope over loopback", streams, tuple(rows)), _layers()]


def _layers() -> Group:
    """The layers without sockets, per processor time."""
    module, contestants, rows = "tests.studies.speed.envelopes", list[Contestant](), list[Row]()
    contestants.append(Module("FEC 10:3 alone", (module, "fec", "10:3")))
    for figure, what in (
        ("encode", "encoding"),
        ("decode_0", "decoding without loss"),
        ("decode_1", "decoding, 1 % lost"),
        ("decode_5", "decoding, 5 % lost"),
        ("decode_each", "decoding, one of every set lost"),
        ("decode_each_2", "decoding, two of every set lost"),
        ("decode_each_3", "decoding, three of every set lost"),
    ):
        text = f"FEC 10:3, {what}, one core"
        rows.append(Row(f"codec/{figure}", text, f"{figure}_bits_per_s", "FEC 10:3 alone", None, 4e9))
    for name in ("aes-128-gcm", "aes", "salsa20", "xor"):
        contestants.append(Module(f"{name} alone", (module, "crypt", name)))
        for figure in ("seal", "open"):
            text = f"{name}, {figure}, one core"
            rows.append(Row(f"cipher/{name}-{figure}", text, f"{figure}_bits_per_s", f"{name} alone"))
    return Group("KCP's envelope alone", tuple(contestants), tuple(rows), most_rounds=FEW_ROUNDS)


def streams() -> list[Group]:
    """Total rate as the number of streams grows, beside iperf3 or beside the best number of streams."""
    udp = ("-b", "0", "-l", str(MTU))
    return [
        _beside_iperf3("tcp", ("--proto", "tcp"), ()),
        *([_beside_iperf3("udp", ("--proto", "udp", *udp), ("-u", *udp))] if "udp" in transports() else []),
        _beside_best("kcp"),
        _beside_best("kcp-bbr"),
    ]


def _beside_iperf3(name: str, mine: tuple[str, ...], theirs: tuple[str, ...]) -> Group:
    contestants: list[Contestant] = []
    rows: list[Row] = []
    for count in STREAM_COUNTS:
        many, peer = f"{name} -P {count}", f"iperf3 {name} -P {count}"
        contestants += [ours(many, *mine, "-P", str(count)), iperf3(peer, *theirs, "-P", str(count))]
        what = f"{name} -P {count}, total received"
        rows.append(Row(f"streams/{name}-{count}", what, "bits_per_s", many, peer, 1.0))
    return Group(f"Streams, {name}", tuple(contestants), tuple(rows))


def _beside_best(name: str) -> Group:
    names = {count: f"{name} -P {count}" for count in STREAM_COUNTS}
    rows: list[Row] = []
    for count, many in names.items():
        what = f"{name} -P {count}, total, against its best"
        best = tuple(names.values())
        rows.append(Row(f"streams/{name}-{count}", what, "bits_per_s", many, limit=KEPT, best_of=best))
        if count > 1:
            what = f"{name} -P {count}, fairness between its streams"
            rows.append(Row(f"streams/{name}-{count}-fair", what, "fairness", many, limit=FAIR))
    contestants = (ours(many, "--proto", name, "-P", str(count)) for count, many in names.items())
    return Group(f"Streams, {name}", tuple(contestants), tuple(rows))


def engines() -> Group:
    """Cost against window: the same path in memory, once short and once long."""
    segments = 100_000
    contestants: list[Contestant] = []
    rows: list[Row] = []
    for what, title in (("ours", ""), ("lossy", ", 1 % loss")):
        for name in ("kcp", "kcp-bbr"):
            short, long = f"{name}, window {SHORT_WINDOW}{title}", f"{name}, window {LONG_WINDOW}{title}"
            for label, window in ((short, SHORT_WINDOW), (long, LONG_WINDOW)):
                contestants.append(_engine(label, what, name, str(window), str(segments)))
            key = f"window/{name}" + ("-lossy" if title else "")
            row = f"{name}{title}: cost per segment, window {LONG_WINDOW}"
            rows.append(Row(key, row, "us_per_segment_sender", long, short, 1.3, 1.0, less_is_better=True))
    return Group("Cost per acknowledged segment", tuple(contestants), tuple(rows), most_rounds=FEW_ROUNDS)


def c_engine() -> Group:
    window, segments = "1024", "100000"
    mine, theirs = "kcp engine in memory", "C engine in memory (PyPI kcp)"
    return Group(
        "Engines alone",
        (
            _engine(mine, "ours", "kcp", window, segments),
            Module(theirs, ("tests.studies.speed.engines", "c", window, segments), why_missing=_no_c_engine),
        ),
        (Row("engine/c", "kcp engine, both ends in one thread", "bits_per_s", mine, theirs),),
    )


def _engine(name: str, *arguments: str) -> Module:
    return Module(name, ("tests.studies.speed.engines", *arguments))


def _no_c_engine() -> str:
    return "" if find_spec("kcp") else "the C engine is missing: pip install kcp"


def memory() -> Group:
    name, payload = f"kcp-bbr, window {LONG_WINDOW} full", LONG_WINDOW * MTU
    return Group(
        "Memory",
        (_engine(name, "memory", "kcp-bbr", str(LONG_WINDOW)),),
        (
            Row(
                "memory/kcp-bbr",
                f"peak memory of a sender, window {LONG_WINDOW}",
                "peak_bytes",
                name,
                None,
                2 * payload + 80e6,
                payload + 50e6,
                less_is_better=True,
            ),
        ),
        most_rounds=FEW_ROUNDS,
    )


def start_up() -> Group:
    name = "iperfpy --version"
    row = Row("version", name, "wall_ms", name, None, 150, 80, less_is_better=True)
    return Group("Start", (Command(name, (*iperfpy(), "--version")),), (row,))


def steady() -> Group:
    """Rate-limited tests: evenness of the rate, and processor time while the sender waits."""
    contestants: list[Contestant] = []
    rows: list[Row] = []
    for name in transports():
        rated, idle = f"{name} -b 100M", f"{name} -b 10M"
        contestants.append(ours(rated, "--proto", name, "-b", "100M"))
        contestants.append(ours(idle, "--proto", name, "-b", "10M", watch=Meter))
        rows.append(_steady(f"rate/{name}", f"{rated}: worst second's error", _ERROR, rated, 1.0, 0.1))
        for end in ("sender", "receiver"):
            what = f"{idle}: {end}, share of a core"
            rows.append(_steady(f"idle/{name}-{end}", what, f"{end}_cpu_percent", idle, 10, None))
    contestants.append(iperf3("iperf3 -b 100M", "-b", "100M"))
    rows.append(Row("rate/iperf3", "iperf3 -b 100M: worst second's error", _ERROR, "iperf3 -b 100M"))
    return Group(
        "Rate-limited", tuple(contestants), tuple(rows), at_least_s=SHORTEST_WATCHED_S, most_rounds=FEW_ROUNDS
    )


_ERROR = "rate_error_percent"


def _steady(key: str, what: str, figure: str, name: str, limit: float, aim: float | None) -> Row:
    return Row(key, what, figure, name, None, limit, aim, less_is_better=True)


GROUPS: tuple[Callable[[], list[Group]], ...] = (
    lambda: [start_up()],
    lambda: [tcp(name) for name in congestion_controls()],
    lambda: [tcp_parallel()],
    lambda: [tcp_without_copies(name) for name in congestion_controls()[:1]],
    lambda: [udp(), smooth()] if "udp" in transports() else [],
    lambda: [kcp()],
    envelope,
    streams,
    lambda: [c_engine(), engines(), memory()],
    lambda: [steady()],
)


def chosen(patterns: tuple[str, ...] = ()) -> list[Group]:
    """The groups, each with the rows that the patterns name (`kcp`, `kcp/stock`, `*/cpu`); all of them
    without patterns."""
    groups = [group.only(patterns) for make in GROUPS for group in make()]
    return [group for group in groups if group is not None]
