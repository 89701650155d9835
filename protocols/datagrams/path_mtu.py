"""The kernel's part in finding the size of datagrams: whole packets only, and what it knows of the path.

    DatagramSizes(sock)     of one socket: probe(), allow_fragments(), longest()
    PortSizes(sizes, peer)  the same for one peer of a port that several sessions send from
    forbid_fragments(sock)  packets are never fragmented
    packet_bytes(sock)      longest packet to the peer: of the interface, or as an ICMP message said

To probe is to forbid fragments, and on Linux also to ignore the path MTU that the kernel believes
(IP_PMTUDISC_PROBE, see RFC 8899 section 4), so that only an interface refuses a packet. Linux and Windows
tell what they know of the path.
"""

from __future__ import annotations

import socket

from iperfpy.protocols.addresses import MAPPED, plain_host
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.operating_system import (
    ALLOW_FRAGMENTS,
    FORBID_FRAGMENTS,
    IP_FRAGMENTS,
    IP_MTU,
    IPV6_FRAGMENTS,
    IPV6_MTU,
    PROBE_SIZES,
)

IPV4_HEADERS, IPV6_HEADERS = 28, 48
"""Bytes of IP and UDP headers."""


class DatagramSizes:
    """The part of one socket in finding the size of datagrams.

    Parameters
    ----------
    one_per_call : True if each datagram costs a system call, as without segmentation offload

    Attributes
    ----------
    probing : True if datagrams that are too long count as lost, and none is ever fragmented
    mode : of path MTU discovery, as set last; None: the system's default
    """

    __slots__ = ("_sock", "mode", "one_per_call", "probing")

    def __init__(self, sock: socket.socket, *, one_per_call: bool = True) -> None:
        self._sock = sock
        self.one_per_call = one_per_call
        self.probing = False
        self.mode: int | None = None

    def probe(self) -> None:
        """Send whole datagrams only. One that this machine's interface does not take counts as lost."""
        self.set_mode(PROBE_SIZES)

    def allow_fragments(self) -> None:
        """Let IP fragment datagrams from now on."""
        self.set_mode(ALLOW_FRAGMENTS)

    def set_mode(self, mode: int) -> None:
        """Set the mode of path MTU discovery, if it is another one."""
        if mode != self.mode:
            self.mode = mode
            self.probing = _discover(self._sock, mode) and mode == PROBE_SIZES

    def longest(self) -> int | None:
        """UDP payload bytes of the longest datagram to the peer, as far as the kernel knows; None: it does
        not tell."""
        return _longest(self._sock)


class PortSizes(DatagramSizes):
    """The part of a session that sends from a port which several sessions share (port_relay.py).

    Each session has a mode of its own, and the port one at a time: `apply` comes before each of its sends.

    Parameters
    ----------
    port : of the shared socket
    remote : the peer of the session
    """

    __slots__ = ("_port", "_remote")

    def __init__(self, port: DatagramSizes, remote: SocketAddress) -> None:
        super().__init__(port._sock, one_per_call=port.one_per_call)
        self._port, self._remote = port, remote

    def set_mode(self, mode: int) -> None:
        self.mode = mode
        self.apply()
        self.probing = self._port.probing

    def apply(self) -> None:
        """Set the session's mode on the port. One that asked for none does not inherit that of another."""
        if self.mode != self._port.mode:
            self._port.set_mode(ALLOW_FRAGMENTS if self.mode is None else self.mode)

    def longest(self) -> int | None:
        # The port is not connected, so the kernel is asked about a socket that is.
        try:
            with socket.socket(self._sock.family, socket.SOCK_DGRAM) as probe:
                if probe.family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                probe.connect(self._remote)
                return _longest(probe)
        except OSError:
            return None


def forbid_fragments(sock: socket.socket) -> bool:
    """Send whole packets only, at most of the path MTU that the kernel knows. False if the system cannot."""
    return _discover(sock, FORBID_FRAGMENTS)


def packet_bytes(sock: socket.socket) -> int | None:
    """Bytes of the longest packet to the peer of a connected socket; None if the system does not tell."""
    plain = is_ipv4(sock)
    try:
        known = sock.getsockopt(*(socket.IPPROTO_IP, IP_MTU) if plain else (socket.IPPROTO_IPV6, IPV6_MTU))
    except OSError:  # not connected, or the system does not tell
        return None
    return known & 0xFFFF_FFFF or None  # Windows' loopback has all bits set, which Python reads as -1


def _longest(sock: socket.socket) -> int | None:
    """UDP payload bytes of the longest packet to the peer of a connected socket; None: not known."""
    packet = packet_bytes(sock)
    return None if packet is None else packet - header_bytes(sock)


def header_bytes(sock: socket.socket) -> int:
    """Bytes of IP and UDP headers of a datagram to the peer of a connected socket."""
    return IPV4_HEADERS if is_ipv4(sock) else IPV6_HEADERS


def is_ipv4(sock: socket.socket) -> bool:
    """True if the packets of a connected socket are IPv4, also when its family is IPv6."""
    return bool(_is_ipv4(sock))


def _is_ipv4(sock: socket.socket) -> bool | None:
    """True if the packets of a socket are IPv4; None if its peer will tell."""
    if sock.family == socket.AF_INET:
        return True
    try:
        return str(sock.getpeername()[0]).startswith(MAPPED)
    except OSError:
        return None


def _discover(sock: socket.socket, mode: int) -> bool:
    """Set the mode of path MTU discovery for packets of each family that the socket has. False if the system
    cannot."""
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FRAGMENTS, mode)
        # An IPv6 socket also has this option, for its IPv4 peers.
        if _may_send_ipv4(sock):
            sock.setsockopt(socket.IPPROTO_IP, IP_FRAGMENTS, mode)
    except OSError:
        return False
    return True


def _may_send_ipv4(sock: socket.socket) -> bool:
    """True if packets of the socket are IPv4, or may be because it has no peer yet."""
    known = _is_ipv4(sock)
    return not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) if known is None else known


def headers_to(address: SocketAddress) -> int:
    """Bytes of the IP and UDP headers of a datagram to this address."""
    return IPV6_HEADERS if ":" in plain_host(address[0]) else IPV4_HEADERS
