"""The namespaces of a run: near end, middle, far end.

    near end                       middle                        far end
    lab0 10.77.0.1 ========= near ... relay ... far ========= lab0 10.77.0.2
         fd77::1                                                  fd77::2

Each "====" is a pair of devices. The two ends know each other's hardware address, so that the path carries
nothing but the packets of programs. This process stands in the middle; a process that it forks is the first
of a PID namespace, and with it everything in there ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iperfpy.lab import linux_calls, offloads
from iperfpy.lab.frame_ring import HEADER_BYTES, FrameRing
from iperfpy.lab.frame_sender import FrameSender
from iperfpy.lab.route_messages import RouteSocket
from iperfpy.lab.way import MTU

DEVICE = "lab0"
ENDS = ("near", "far")
IPV4 = {"near": "10.77.0.1", "far": "10.77.0.2"}
IPV6 = {"near": "fd77::1", "far": "fd77::2"}
_HARDWARE = {"near": bytes.fromhex("0277004d0001"), "far": bytes.fromhex("0277004d0002")}

_LIMITS = (
    ("kernel.apparmor_restrict_unprivileged_userns", "0", "sudo sysctl -w {}=0"),
    ("kernel.unprivileged_userns_clone", "1", "sudo sysctl -w {}=1"),
    ("user.max_user_namespaces", "", "sudo sysctl -w {}=10000"),
    ("user.max_net_namespaces", "", "sudo sysctl -w {}=10000"),
    ("user.max_pid_namespaces", "", "sudo sysctl -w {}=10000"),
)
"""Setting, the value that allows namespaces (empty: any but 0), and the command that sets it."""


class ForbiddenError(Exception):
    """The system forbids namespaces; the sentence names the setting, if one is known."""


@dataclass(frozen=True, slots=True)
class World:
    """The namespaces, once they are made.

    networks : end -> descriptor of its network namespace
    mtu : of both devices
    unprivileged : True if an ordinary user made them, in a user namespace
    """

    networks: dict[str, int]
    mtu: int
    unprivileged: bool

    def open_end(self, end: str) -> tuple[FrameRing, FrameSender]:
        """Open the middle's device of one end: frames that come from there, and a way to send some there."""
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        ring = FrameRing(sock, end, self.mtu + HEADER_BYTES)
        return ring, FrameSender(sock.fileno())

    def close(self) -> None:
        """Close the descriptors; the namespaces end with their last process."""
        for network in self.networks.values():
            os.close(network)

    def lost(self) -> int:
        """Number of packets that the devices of this run lost, all queues of the kernel included."""
        lost, middle = _lost(ENDS), _network()
        for network in self.networks.values():
            linux_calls.enter_network(network)
            lost += _lost([DEVICE])
        linux_calls.enter_network(middle)
        os.close(middle)
        return lost


def _lost(devices: Sequence[str]) -> int:
    """Packets that some devices of the present network namespace dropped, both ways."""
    found = 0
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]:
        name, _, counts = line.partition(":")
        if name.strip() in devices:
            received, sent = counts.split()[:8], counts.split()[8:]
            found += int(received[3]) + int(sent[3])
    return found


def make_world(mtu: int = MTU) -> World:
    """Move this process into new namespaces, and make the devices between them. There is no way back.

    Raises
    ------
    ForbiddenError
        The system does not allow it. The process may have left some of its namespaces, and should end.
    """
    try:
        unprivileged = _leave()
        middle = _network()
        networks: dict[str, int] = {}
        for end in ENDS:
            linux_calls.unshare(linux_calls.CLONE_NEWNET)
            networks[end] = _network()
        linux_calls.enter_network(middle)
        _configure("ipv6/conf/default/disable_ipv6", "1")
        for end in ENDS:
            with RouteSocket() as routes:
                routes.add_pair(end, mtu, DEVICE, _HARDWARE[end], networks[end])
                routes.set_up(end)
        for end, peer in zip(ENDS, reversed(ENDS), strict=True):
            linux_calls.enter_network(networks[end])
            _prepare_end(end, peer)
        linux_calls.enter_network(middle)
        return World(networks, mtu, unprivileged)
    except OSError as error:
        raise ForbiddenError(_why(error)) from error


def _leave() -> bool:
    """Leave the namespaces of networks and (for children) processes; True if a user namespace was needed for
    that."""
    flags = linux_calls.CLONE_NEWNET | linux_calls.CLONE_NEWPID
    try:
        linux_calls.unshare(flags)
        return False
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        linux_calls.unshare(flags | linux_calls.CLONE_NEWUSER)
    # The user keeps name and number, so the owners of files stay the same. The order is the kernel's rule.
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        Path("/proc/self", name).write_text(text)
    return True


def _network() -> int:
    """A descriptor of the present network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _configure(name: str, value: str) -> None:
    """Set a sysctl of the present network namespace, if this kernel has it and /proc can be written."""
    with contextlib.suppress(OSError):
        Path("/proc/sys/net", name).write_text(value)


def _prepare_end(end: str, peer: str) -> None:
    """Set up the devices of one end; this thread has entered its network namespace."""
    # No address of the link, and so no multicast groups and no search for routers: they would be traffic.
    for name, value in (("addr_gen_mode", "1"), ("accept_ra", "0"), ("router_solicitations", "0")):
        _configure(f"ipv6/conf/{DEVICE}/{name}", value)
    offloads.switch_off(DEVICE)
    with RouteSocket() as routes:
        routes.set_up("lo")
        routes.set_up(DEVICE)
        families = [(IPV4, 24)]
        if Path("/proc/sys/net/ipv6").exists():
            families.append((IPV6, 64))
        for addresses, prefix in families:
            routes.add_address(DEVICE, addresses[end], prefix)
            routes.add_neighbour(DEVICE, addresses[peer], _HARDWARE[peer])


def _why(error: OSError) -> str:
    """The sentence for a refusal: the setting that forbids namespaces, if one does."""
    for name, allowing, command in _LIMITS:
        with contextlib.suppress(OSError):
            value = Path("/proc/sys", name.replace(".", "/")).read_text().strip()
            forbids = value != allowing if allowing else value == "0"
            if forbids and (not allowing or os.geteuid()):
                return (
                    f"this system forbids namespaces by the setting {name} = {value}; an administrator "
                    f"allows them by {command.format(name)}"
                )
    if error.errno == errno.ENOSPC:
        return "this system has no more namespaces to give (user.max_user_namespaces)"
    return (
        f"this system refused namespaces ({error.strerror or error}), as containers do without --privileged"
    )
