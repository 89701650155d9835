"""A path of the kernel: three network namespaces in a row, like two machines and a router.

    client  10.83.1.2 c0 -- r0 10.83.1.1  router  10.83.2.1 r1 -- s0 10.83.2.2  server

The router forwards, drops packets at random by nftables rules, and limits the rate with tbf in each
direction. On a path with delay, r1 and s0 are TUN devices with a `delay_line` between them; otherwise every
link is a veth pair. Needs Linux, root, ip, tc and nft.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CLIENT, SERVER = "10.83.1.2", "10.83.2.2"
ROUTER = "10.83.2.1"
"""The router's address on the server's side."""
CLONE_NEWNET = 0x4000_0000
LARGE_BYTES = 1000
PROGRAMS = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables"}
_LIBC = ctypes.CDLL(None, use_errno=True)


class PathError(Exception):
    """The path could not be made; the sentence says why."""


@dataclass(frozen=True, slots=True)
class PathSpec:
    """One path. `rate_mbit` in each direction, with `queue_ms` of queue; `loss_percent` of the large packets
    in the data's direction, lost before the queue (small packets are spared: a retransmission of a one-byte
    control message would delay the test, not the data); `delay_ms` and `jitter_ms` (uniform, +-) in each
    direction. `translates`: the router gives the client's packets its own address, and admits only answers to
    them."""

    name: str
    rate_mbit: float = 20.0
    queue_ms: float = 60.0
    loss_percent: float = 0.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    translates: bool = False
    police_mbit: float = 0.0
    """Above 0: large packets in the data's direction above this rate are dropped, not queued."""
    bucket_bytes: int = 192_000
    """Depth of the policer's token bucket."""


def why_not() -> str:
    """Say why no path can be made here, in one sentence; empty if one can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {package}"
    if not Path("/dev/net/tun").exists():
        return "this kernel has no TUN devices: /dev/net/tun is missing"
    # Even root may lack the right, in a container for example, so try it.
    probe = f"iperfpy-{os.getpid()}-probe"
    try:
        run("ip", "netns", "add", probe)
        run("ip", "netns", "del", probe)
    except PathError as error:
        return f"network namespaces cannot be made here: {error}"
    return ""


def run(*argv: str) -> None:
    """Run a program; raise `PathError` with the last line of its output if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        messages = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise PathError(f"{' '.join(argv)}: {messages[-1]}")


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Move this thread into `namespace` for the block; sockets made in it stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(there)
        os.close(home)


def enter(namespace: str) -> None:
    """Move this thread into `namespace` for good."""
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
    finally:
        os.close(there)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass(frozen=True, slots=True)
class Path3:
    """A path in place: the names of its namespaces, and of the device at each end."""

    client: str
    router: str
    server: str
    client_device: str = "c0"
    server_device: str = "s0"

    def command(self, namespace: str, argv: tuple[str, ...]) -> tuple[str, ...]:
        return ("ip", "netns", "exec", namespace, *argv)


@contextmanager
def path(spec: PathSpec, *, reverse: bool) -> Iterator[Path3]:
    """Make the path, and remove it after the block. `reverse`: the data flows from the server to the client.

    Raises
    ------
    PathError
    """
    stem = f"iperfpy-{os.getpid()}-{threading.get_ident()}"  # threads may have paths at once
    made = Path3(f"{stem}-c", f"{stem}-r", f"{stem}-s")
    # Everything made so far is removed if a later step fails.
    with ExitStack() as stack:
        for namespace in (made.client, made.router, made.server):
            run("ip", "netns", "add", namespace)
            stack.callback(subprocess.run, ["ip", "netns", "del", namespace], check=False)
            _switch(namespace)
        _veth(made.client, "c0", made.router, "r0")
        if spec.delay_ms:
            stack.enter_context(_delayed(spec, made))
        else:
            _veth(made.router, "r1", made.server, "s0")
        _addresses(made)
        for device in ("r0", "r1"):
            _shape(spec, made.router, device)
        if spec.loss_percent:
            _lose(spec, made.router, "r1" if reverse else "r0")
        if spec.police_mbit:
            _police(spec, made.router, "r1" if reverse else "r0")
        if spec.translates:
            _translate(made.router)
        yield made


def _switch(namespace: str) -> None:
    """Enable forwarding; disable IPv6 neighbour discovery and TCP metrics that would carry over to the next
    run."""
    settings = ("ipv4/ip_forward=1", "ipv4/tcp_no_metrics_save=1", "ipv6/conf/all/disable_ipv6=1")
    script = "; ".join(
        f"test ! -e /proc/sys/net/{name} || echo {value} > /proc/sys/net/{name}"
        for name, value in (setting.split("=") for setting in settings)
    )
    run("ip", "netns", "exec", namespace, "sh", "-c", script)


def _veth(near: str, near_device: str, far: str, far_device: str) -> None:
    run(
        *("ip", "link", "add", near_device, "netns", near, "type", "veth"),
        *("peer", "name", far_device, "netns", far),
    )


def _addresses(made: Path3) -> None:
    ends = (
        (made.client, "c0", f"{CLIENT}/24", "10.83.1.1"),
        (made.router, "r0", "10.83.1.1/24", ""),
        (made.router, "r1", f"{ROUTER}/24", ""),
        (made.server, "s0", f"{SERVER}/24", ROUTER),
    )
    for namespace, device, address, _ in ends:
        run("ip", "-n", namespace, "addr", "add", address, "dev", device)
        # Segmentation happens before the device, so the capture shows the packets that a cable would carry.
        run("ip", "-n", namespace, "link", "set", device, "gso_max_segs", "1")
        run("ip", "-n", namespace, "link", "set", device, "up")
    for namespace, _, _, gateway in ends:
        if gateway:
            run("ip", "-n", namespace, "route", "add", "default", "via", gateway)


def _shape(spec: PathSpec, namespace: str, device: str) -> None:
    queue_bytes = max(3000, round(spec.rate_mbit * 125 * spec.queue_ms))
    run(
        *("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf"),
        *("rate", f"{spec.rate_mbit:g}mbit", "burst", "4500", "limit", str(queue_bytes)),
    )


def _lose(spec: PathSpec, namespace: str, device: str) -> None:
    rules = (
        "add table inet truth;"
        "add chain inet truth forward { type filter hook forward priority 0; };"
        f'add rule inet truth forward iifname "{device}"'
        f" meta length > {LARGE_BYTES} numgen random mod 100000 < {round(spec.loss_percent * 1000)} drop"
    )
    run("ip", "netns", "exec", namespace, "nft", rules)


def _police(spec: PathSpec, namespace: str, device: str) -> None:
    rules = (
        "add table inet police;"
        "add chain inet police forward { type filter hook forward priority 1; };"
        f'add rule inet police forward iifname "{device}" meta length > {LARGE_BYTES}'
        f" limit rate over {round(spec.police_mbit * 125_000)} bytes/second"
        f" burst {spec.bucket_bytes} bytes drop"
    )
    run("ip", "netns", "exec", namespace, "nft", rules)


def _translate(namespace: str) -> None:
    rules = (
        "add table inet home;"
        "add chain inet home out { type nat hook postrouting priority 100; };"
        'add rule inet home out oifname "r1" masquerade;'
        "add chain inet home forward { type filter hook forward priority 0; policy drop; };"
        'add rule inet home forward iifname "r0" accept;'
        "add rule inet home forward ct state established accept"
    )
    run("ip", "netns", "exec", namespace, "nft", rules)


@contextmanager
def _delayed(spec: PathSpec, made: Path3) -> Iterator[None]:
    """Make the TUN devices r1 and s0, and start the process that carries packets between them."""
    argv = [sys.executable, "-m", "tests.studies.wire.delay_line", made.router, "r1", made.server, "s0"]
    process = subprocess.Popen(
        [*argv, str(spec.delay_ms), str(spec.jitter_ms)], stdout=subprocess.PIPE, text=True
    )
    try:
        _await_ready(process.stdout)
        yield
    finally:
        process.terminate()
        process.wait(5)
        if process.stdout is not None:
            process.stdout.close()


def _await_ready(output: IO[str] | None) -> None:
    if output is None or output.readline().strip() != "ready":
        raise PathError("the delay line did not start")
