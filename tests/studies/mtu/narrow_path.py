"""A path that is narrow in the middle: four network namespaces in a row, two routers between two hosts.

    client c0 -- r0 router r1 == q1 gateway q0 -- s0 server

The links of the hosts take packets of `edge_mtu` bytes, the one between the routers `mtu`: neither host sees
the limit at its own interface, nor in the other's segment size. In the middle, tbf limits the rate in both
directions. Without ICMP, both routers drop what they would say about packets that are too long.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.studies.wire.namespaces import run

RATE_MBIT = 20
NSTAT = ("IpFragCreates", "IpFragOKs", "IpReasmReqds", "Ip6FragCreates", "Ip6FragOKs", "Ip6ReasmReqds")


@dataclass(frozen=True, slots=True)
class NarrowPath:
    """A path in place: namespaces in order, and the server's addresses."""

    names: tuple[str, str, str, str]
    server4: str = "10.85.3.2"
    server6: str = "fd85:3::2"

    @property
    def client(self) -> str:
        return self.names[0]

    @property
    def server(self) -> str:
        return self.names[3]

    def set_mtu(self, mtu: int) -> None:
        """Change what the middle carries."""
        run("ip", "-n", self.names[1], "link", "set", "r1", "mtu", str(mtu))
        run("ip", "-n", self.names[2], "link", "set", "q1", "mtu", str(mtu))

    def fragments(self) -> int:
        """IP fragments made, sent or joined so far, in all namespaces."""
        total = 0
        for name in self.names:
            for protocol in ("snmp", "snmp6"):
                total += _fragments(_read(name, f"/proc/net/{protocol}"))
        return total


@contextmanager
def narrow_path(mtu: int, edge_mtu: int, *, icmp: bool, stem: str) -> Iterator[NarrowPath]:
    """Make the path, and remove it after the block. Raises `PathError`."""
    names = tuple(f"{stem}-{part}" for part in "crgs")
    made = NarrowPath(names)  # type: ignore[arg-type]  # four names
    with ExitStack() as stack:
        for name in names:
            run("ip", "netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            run("ip", "-n", name, "link", "set", "lo", "up")
            for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                run(
                    "ip", "netns", "exec", name, "sh", "-c", f"echo 1 > /proc/sys/{setting.replace('.', '/')}"
                )
            # TCP's own memory of the path must not help a later run.
            run("ip", "netns", "exec", name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save")
        for near, near_device, far, far_device in (
            (names[0], "c0", names[1], "r0"),
            (names[1], "r1", names[2], "q1"),
            (names[2], "q0", names[3], "s0"),
        ):
            run(
                *("ip", "link", "add", near_device, "netns", near, "type", "veth"),
                *("peer", "name", far_device, "netns", far),
            )
        ends = (
            (names[0], "c0", 1, 2, edge_mtu),
            (names[1], "r0", 1, 1, edge_mtu),
            (names[1], "r1", 2, 1, mtu),
            (names[2], "q1", 2, 2, mtu),
            (names[2], "q0", 3, 1, edge_mtu),
            (names[3], "s0", 3, 2, edge_mtu),
        )
        for name, device, net, host, size in ends:
            link = ("ip", "-n", name, "link", "set", device)
            run(*link, "mtu", str(size))
            run(*link, "gso_max_segs", "1")
            run(*link, "up")
            run("ip", "-n", name, "addr", "add", f"10.85.{net}.{host}/24", "dev", device)
            run("ip", "-n", name, "addr", "add", f"fd85:{net}::{host}/64", "dev", device, "nodad")
        for name, net, host in ((names[0], 1, 1), (names[1], 2, 2), (names[2], 2, 1), (names[3], 3, 1)):
            run("ip", "-n", name, "route", "add", "default", "via", f"10.85.{net}.{host}")
            run("ip", "-n", name, "-6", "route", "add", "default", "via", f"fd85:{net}::{host}")
        for name, device in ((names[1], "r1"), (names[2], "q1")):
            queue = RATE_MBIT * 125 * 50  # 50 ms
            run(
                *("tc", "-n", name, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{RATE_MBIT}mbit"),
                *("burst", "12000", "limit", str(queue)),
            )
            if not icmp:
                run("ip", "netns", "exec", name, "nft", _SILENCE)
        yield made


_SILENCE = (
    "add table inet silent;"
    "add chain inet silent out { type filter hook output priority 0; };"
    "add rule inet silent out icmp type destination-unreachable drop;"
    "add rule inet silent out icmpv6 type packet-too-big drop"
)


def _read(name: str, path: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", name, "cat", path], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


def _fragments(text: str) -> int:
    """The sum of the counters named in `NSTAT`, where nstat reads them."""
    total, lines = 0, text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        words = line.split()
        if words and words[0] == "Ip:" and not words[1].isdigit():
            values = dict(zip(words[1:], after.split()[1:], strict=True))
            total += sum(int(values[name]) for name in ("FragCreates", "FragOKs", "ReasmReqds"))
        elif len(words) == 2 and words[0] in NSTAT:
            total += int(words[1])
    return total
