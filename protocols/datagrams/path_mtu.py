"""The kernel's part in finding the size of datagrams: whole packets only, and what it knows of the path.

    probe_sizes(sock)       packets are never fragmented, and the path MTU that the kernel believes is ignored
                            (IP_PROBE_SIZES, see RFC 8899 section 4): only an interface refuses one
    forbid_fragments(sock)  packets are never fragmented
    allow_fragments(sock)   packets may be fragmented on the way
    packet_bytes(sock)      longest packet to the peer: of the interface, or as an ICMP message said

On Linux. Elsewhere probing is the same as forbidding, and the kernel does not tell what it knows.
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
    """The part of one connected socket in finding the size of datagrams.

    Attributes
    ----------
    probing : True if datagrams that are too long count as lost
    """

    __slots__ = ("_sock", "probing")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.probing = False

    def probe(self) -> None:
        """Send whole datagrams only. One that this machine's interface does not take counts as lost."""
        self.probing = probe_sizes(self._sock)

    def allow_fragments(self) -> None:
        """Let IP fragment datagrams from now on."""
        allow_fragments(self._sock)

    def longest(self) -> int | None:
        """UDP payload bytes of the longest datagram to the peer, as far as the kernel knows; None: it does
        not tell."""
        packet = packet_bytes(self._sock)
        return None if packet is None else packet - header_bytes(self._sock)


def probe_sizes(sock: socket.socket) -> bool:
    """Send whole packets only, as long as the interface takes them. False if the system cannot."""
    return _discover(sock, PROBE_SIZES)


def forbid_fragments(sock: socket.socket) -> bool:
    """Send whole packets only, at most of the path MTU that the kernel knows. False if the system cannot."""
    return _discover(sock, FORBID_FRAGMENTS)


def allow_fragments(sock: socket.socket) -> bool:
    """Let packets be fragmented. False if the system cannot."""
    return _discover(sock, ALLOW_FRAGMENTS)


def packet_bytes(sock: socket.socket) -> int | None:
    """Bytes of the longest packet to the peer of a connected socket; None if the system does not tell."""
    plain = is_ipv4(sock)
    try:
        return sock.getsockopt(*(socket.IPPROTO_IP, IP_MTU) if plain else (socket.IPPROTO_IPV6, IPV6_MTU))
    except OSError:  # not connected, or the system does not tell
        return None


def header_bytes(sock: socket.socket) -> int:
    """Bytes of IP and UDP headers of a datagram to the peer of a connected socket."""
    return IPV4_HEADERS if is_ipv4(sock) else IPV6_HEADERS


def is_ipv4(sock: socket.socket) -> bool:
    """True if the packets of a connected socket are IPv4, also when its family is IPv6."""
    if sock.family == socket.AF_INET:
        return True
    try:
        return str(sock.getpeername()[0]).startswith(MAPPED)
    except OSError:
        return False


def _discover(sock: socket.socket, mode: int) -> bool:
    """Set the mode of path MTU discovery for packets of either family."""
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FRAGMENTS, mode)
        # An IPv6 socket also has this option, for its IPv4 peers.
        if sock.family == socket.AF_INET or is_ipv4(sock):
            sock.setsockopt(socket.IPPROTO_IP, IP_FRAGMENTS, mode)
    except OSError:
        return False
    return True


def headers_to(address: SocketAddress) -> int:
    """Bytes of the IP and UDP headers of a datagram to this address."""
    return IPV6_HEADERS if ":" in plain_host(address[0]) else IPV4_HEADERS
