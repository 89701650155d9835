"""The kernel's part in finding the size of datagrams: whole packets only, and what it knows of the path.

    probe_sizes(sock)       packets are never fragmented, and the path MTU that the kernel believes is ignored
                            (IP_PMTUDISC_PROBE, see RFC 8899 section 4): only an interface refuses one
    forbid_fragments(sock)  packets are never fragmented
    allow_fragments(sock)   packets may be fragmented on the way
    packet_bytes(sock)      longest packet to the peer: of the interface, or as an ICMP message said

Linux numbers; elsewhere nothing is known, and a socket is left as it is.
"""

from __future__ import annotations

import socket
import sys

IP_MTU_DISCOVER, IP_MTU = 10, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24
PMTUDISC_DONT, PMTUDISC_DO, PMTUDISC_PROBE = 0, 2, 3
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
    return _discover(sock, PMTUDISC_PROBE)


def forbid_fragments(sock: socket.socket) -> bool:
    """Send whole packets only, at most of the path MTU that the kernel knows. False if the system cannot."""
    return _discover(sock, PMTUDISC_DO)


def allow_fragments(sock: socket.socket) -> bool:
    """Let packets be fragmented. False if the system cannot."""
    return _discover(sock, PMTUDISC_DONT)


def packet_bytes(sock: socket.socket) -> int | None:
    """Bytes of the longest packet to the peer of a connected socket; None if the system does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    plain = is_ipv4(sock)
    try:
        return sock.getsockopt(*(socket.IPPROTO_IP, IP_MTU) if plain else (socket.IPPROTO_IPV6, IPV6_MTU))
    except OSError:  # not connected
        return None


def header_bytes(sock: socket.socket) -> int:
    """Bytes of IP and UDP headers of a datagram to the peer of a connected socket."""
    return IPV4_HEADERS if is_ipv4(sock) else IPV6_HEADERS


def is_ipv4(sock: socket.socket) -> bool:
    """True if the packets of a connected socket are IPv4, also when its family is IPv6."""
    if sock.family == socket.AF_INET:
        return True
    try:
        return str(sock.getpeername()[0]).startswith("::ffff:")
    except OSError:
        return False


def _discover(sock: socket.socket, mode: int) -> bool:
    """Set the mode of path MTU discovery for packets of either family."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode)
        # An IPv6 socket also has this option, for its IPv4 peers.
        if sock.family == socket.AF_INET or is_ipv4(sock):
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, mode)
    except OSError:
        return False
    return True
