"""Devices, addresses and neighbours of a network namespace, over a routing socket (rtnetlink(7)).

A message is a header, a struct that depends on its kind, and attributes: length, kind and value, aligned to
four bytes. Attributes may contain attributes. The namespace is that of the thread that makes the socket.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Self

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWNEIGH = 16, 20, 28
NLM_REQUEST, NLM_ACK, NLM_EXCLUSIVE, NLM_CREATE = 1, 4, 0x200, 0x400
NLMSG_ERROR = 2
IFLA_ADDRESS, IFLA_NAME, IFLA_MTU, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 4, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_WITHOUT_DETECTION = 2
NDA_DESTINATION, NDA_LINK_ADDRESS = 1, 2
NEIGHBOUR_PERMANENT = 0x80
IFF_UP = 1

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_ATTRIBUTE = struct.Struct("=HH")
_ANSWER_BYTES = 65_536


class RouteSocket:
    """A routing socket of the present network namespace. Each method waits for the kernel's answer.

    Raises OSError if the kernel refuses; its text begins with the request.
    """

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def add_pair(self, name: str, mtu: int, peer: str, peer_address: bytes, peer_network: int) -> None:
        """Make a pair of devices: `name` here, and `peer`, which has a hardware address, in the network
        namespace of the descriptor `peer_network`."""
        other = _LINK.pack(0, 0, 0, 0, 0) + _attributes(
            (IFLA_NAME, peer.encode() + b"\0"),
            (IFLA_ADDRESS, peer_address),
            (IFLA_MTU, struct.pack("=I", mtu)),
            (IFLA_NET_NS_FD, struct.pack("=I", peer_network)),
        )
        info = _attributes((IFLA_INFO_KIND, b"veth"), (IFLA_INFO_DATA, _attributes((VETH_INFO_PEER, other))))
        request = _LINK.pack(0, 0, 0, 0, 0) + _attributes(
            (IFLA_NAME, name.encode() + b"\0"), (IFLA_MTU, struct.pack("=I", mtu)), (IFLA_LINKINFO, info)
        )
        self._ask(f"device {name}", RTM_NEWLINK, request, NLM_CREATE | NLM_EXCLUSIVE)

    def set_up(self, name: str) -> None:
        """Switch a device on."""
        request = _LINK.pack(0, 0, socket.if_nametoindex(name), IFF_UP, IFF_UP)
        self._ask(f"device {name}", RTM_NEWLINK, request)

    def add_address(self, name: str, address: str, prefix: int) -> None:
        """Give a device an address, usable at once, without detection of duplicates."""
        family, packed = _packed(address)
        request = _ADDRESS.pack(family, prefix, 0, 0, socket.if_nametoindex(name)) + _attributes(
            (IFA_LOCAL, packed),
            (IFA_ADDRESS, packed),
            (IFA_FLAGS, struct.pack("=I", IFA_WITHOUT_DETECTION)),
        )
        self._ask(f"address {address}", RTM_NEWADDR, request, NLM_CREATE | NLM_EXCLUSIVE)

    def add_neighbour(self, name: str, address: str, hardware: bytes) -> None:
        """Set the hardware address of a neighbour, so that no discovery is needed."""
        family, packed = _packed(address)
        request = _NEIGHBOUR.pack(
            family, socket.if_nametoindex(name), NEIGHBOUR_PERMANENT, 0, 0
        ) + _attributes((NDA_DESTINATION, packed), (NDA_LINK_ADDRESS, hardware))
        self._ask(f"neighbour {address}", RTM_NEWNEIGH, request, NLM_CREATE | NLM_EXCLUSIVE)

    def _ask(self, subject: str, kind: int, request: bytes, flags: int = 0) -> None:
        self._number += 1
        length = _HEADER.size + len(request)
        self._sock.send(_HEADER.pack(length, kind, NLM_REQUEST | NLM_ACK | flags, self._number, 0) + request)
        answer = self._sock.recv(_ANSWER_BYTES)
        # An acknowledgement is an error message with the number 0.
        number = struct.unpack_from("=i", answer, _HEADER.size)[0]
        if _HEADER.unpack_from(answer)[1] != NLMSG_ERROR or number:
            raise OSError(-number, f"{subject}: {os.strerror(-number)}")


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _attributes(*each: tuple[int, bytes]) -> bytes:
    """Attributes one after the other."""
    return b"".join(_aligned(each))


def _aligned(each: Iterable[tuple[int, bytes]]) -> Iterable[bytes]:
    for kind, value in each:
        length = _ATTRIBUTE.size + len(value)
        yield _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)
