"""Paths by name, for `preset=NAME` in the language of paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """A path with a name.

    path : its description in the language of paths, for both ways
    title : the path in a few words
    source : origin of the figures
    synthetic : True if the path imitates a kind of network by a model
    """

    path: str
    title: str
    source: str
    synthetic: bool = False


_SEED = "delay of a measured path; rates, queue and bucket by its results (results/records/seed.md)"
_PANTHEON = "Pantheon (Yan et al., 2018), src/scripts/experiments.yml of its observatory"


def _seed() -> dict[str, Preset]:
    """A path with a queue up and a policer down: as one path, and each direction towards the far end."""
    up, down = "24M,queue=425k", "100M,queue=4M,police=20M/192k"
    return {
        "seed": Preset(f"delay=85ms up:{up} down:rate={down}", "170 ms: a queue up, a policer down", _SEED),
        "seed-up": Preset(f"{up},delay=85ms", "170 ms, 24 Mbit/s with a queue", _SEED),
        "seed-down": Preset(f"{down},delay=85ms", "170 ms, policed to 20 Mbit/s", _SEED),
    }


def _pantheon() -> dict[str, Preset]:
    """The 18 emulated scenarios of Pantheon, by their numbers. Its Poisson traces are generated anew."""
    infinite = "down:queue=off"
    measured = (
        ("Nepal to AWS India", "poisson:0.57M", 28, "queue=14p,loss=4.77"),
        ("Mexico, cellular, to AWS California", "poisson:2.64M", 88, "queue=130p"),
        ("AWS Brazil to Colombia, cellular", "poisson:3.04M", 130, "queue=426p"),
        ("India to AWS India", "constant:100.42M", 27, "queue=173p"),
        ("AWS Korea to China", "constant:77.72M", 51, "queue=94p,loss=0.06"),
        ("AWS California to Mexico", "constant:114.68M", 45, "queue=450p"),
    )
    paths = [
        (title, f"delay={delay}ms up:trace={trace},{queue} {infinite},trace={trace}")
        for title, trace, delay, queue in measured
    ]
    paths += [
        (
            f"{rate} Mbit/s without a queue, {2 * delay} ms",
            f"delay={delay}ms both:trace=constant:{rate}M,queue=1p",
        )
        for delay in (10, 50)
        for rate in (12, 60, 108)
    ]
    paths += [
        (title, f"delay=10ms up:trace=constant:12M,queue=off {infinite},trace=constant:{back}")
        for title, back in (("1 ACK every 100 ms", "0.12M"), ("10 ACKs every 200 ms", "0.6M/10"))
    ]
    paths += [
        (
            f"12 Mbit/s, queue of {title}",
            f"delay=30ms up:trace=constant:12M,queue={size} {infinite},trace=constant:12M",
        )
        for title, size in (("BDP/10", "9k"), ("BDP/3", "30k"), ("BDP/2", "45k"), ("1 BDP", "90k"))
    ]
    return {
        f"pantheon-{number}": Preset(path, title, f"{_PANTHEON}, scenario {number}")
        for number, (title, path) in enumerate(paths, 1)
    }


def _synthetic() -> dict[str, Preset]:
    """Kinds of access networks, by models and published figures: imitations, and not recordings."""
    paths = {
        "wifi-like": (
            "delay=10ms both:codel=20ms/100ms,agg=1ms/6ms up:trace=wifi:45M/1 down:trace=wifi:45M/2",
            "Wi-Fi while walking indoors: fades, frame aggregation",
            "rate: Aydin, Fund, Panwar (CNERT 2023), traces 11; queue: CoDel of Linux's mac80211 "
            "(Hoiland-Jorgensen et al., 2017); aggregation: the usual limit of a transmission is 6 ms",
        ),
        "lte-like": (
            "delay=20ms both:queue=1M up:trace=lte:5.95M/1 down:trace=lte:5.03M/2",
            "LTE in motion: fading, a deep queue",
            "rate: traces Verizon-LTE-short of mahimahi; delay: Sprout (Winstein et al., 2013); queue: "
            "Jiang et al. (2012)",
        ),
        "starlink-like": (
            "delay=25ms both:jitter=5ms,ge=0.05/10 up:trace=starlink:17M/1,queue=130k "
            "down:trace=starlink:178M/2,queue=1.1M",
            "Starlink: another rate every 15 s, bursts of loss",
            "rates, delay, loss: Michel et al. (2022); changes every 15 s: Mohan et al. (2024)",
        ),
        "cable": (
            "delay=12ms up:10M,queue=256k,agg=2ms/8ms down:rate=200M,queue=2.5M",
            "DOCSIS: request and grant upwards, a deep queue",
            "delay and grants: White, Sundaresan, Briscoe, Low Latency DOCSIS (2019); queue: "
            "Kreibich et al., Netalyzr (2010)",
        ),
        "dsl": (
            "delay=15ms up:1M,queue=128k down:rate=16M,queue=256k",
            "ADSL: a thin uplink with a second of queue",
            "delay: FCC, Measuring Broadband America; queue: Kreibich et al., Netalyzr (2010)",
        ),
        "geo": (
            "delay=325ms up:10M,queue=1bdp down:rate=50M,queue=1bdp",
            "a geostationary satellite",
            "rates and delay: draft-kuhn-quic-4-sat",
        ),
        "vpn": (
            "delay=20ms both:rate=50M,queue=1bdp,jitter=1ms,maxlen=1420",
            "a tunnel of WireGuard: packets of 1,420 bytes",
            "size: WireGuard's default for tunnels over IPv6; the rest is an example",
        ),
    }
    return {
        name: Preset(path, title, source, synthetic=True) for name, (path, title, source) in paths.items()
    }


PRESETS: Mapping[str, Preset] = {**_seed(), **_pantheon(), **_synthetic()}
