"""Capture of a network device, packet by packet, with the kernel's time stamps.

An AF_PACKET socket holds the packets of a whole run and is read afterwards, so the capture takes no processor
time while the test runs.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.studies.wire.namespaces import inside

ETH_P_ALL = 0x0003
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
SOL_PACKET, PACKET_STATISTICS = 263, 6
PACKET_OUTGOING = 4
ROOM_BYTES = 512 << 20
PACKET_BYTES = 65_536
TCP, UDP = 6, 17

_STAMP = struct.Struct("@ll")
_STATISTICS = struct.Struct("@II")
_PORTS = struct.Struct("!HH")


class CaptureError(Exception):
    """The capture is incomplete, so the run cannot be judged."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One IPv4 packet. `out`: it left by this device. `body` begins with the TCP or UDP header. `dscp`: the
    code point of RFC 2474."""

    us: float
    out: bool
    protocol: int
    ports: tuple[int, int]
    body: bytes
    dscp: int = 0


@dataclass(frozen=True, slots=True)
class Tap:
    """A running capture."""

    sock: socket.socket
    namespace: str
    device: str
    before: tuple[int, int]

    def packets(self) -> list[Packet]:
        """Return all packets so far; call it once.

        Raises
        ------
        CaptureError
            The kernel dropped packets, or its counters of the device disagree.
        """
        # Reading the kernel's statistics resets them.
        received, dropped = _STATISTICS.unpack(self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if dropped:
            raise CaptureError(f"the capture of {self.device} missed {dropped} packets")
        after = interface_packets(self.namespace, self.device)
        counted = sum(after) - sum(self.before)
        read = list(self._read())
        if len(read) != received or abs(counted - received) > 0:
            raise CaptureError(
                f"{self.device} carried {counted} packets, the capture has {len(read)} of {received}"
            )
        return [packet for packet in map(_packet, read) if packet is not None]

    def _read(self) -> Iterator[tuple[float, bool, bytes]]:
        self.sock.setblocking(False)
        while True:
            try:
                data, ancillary, _, address = self.sock.recvmsg(PACKET_BYTES, 64)
            except BlockingIOError:
                return
            seconds, rest_ns = _STAMP.unpack(ancillary[0][2])
            yield seconds * 1e6 + rest_ns / 1e3, address[2] == PACKET_OUTGOING, data


@contextmanager
def tap(namespace: str, device: str) -> Iterator[Tap]:
    """Capture the packets of `device` from now on."""
    with inside(namespace):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0))
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        before = interface_packets(namespace, device)
        sock.bind((device, ETH_P_ALL))
    with sock:
        yield Tap(sock, namespace, device, before)


def interface_packets(namespace: str, device: str) -> tuple[int, int]:
    """Read the kernel's (received, transmitted) packet counters of the device."""
    with inside(namespace), open("/proc/thread-self/net/dev") as table:
        for line in table:
            name, _, figures = line.partition(":")
            if name.strip() == device:
                fields = figures.split()
                return int(fields[1]), int(fields[9])
    raise CaptureError(f"there is no device {device} in {namespace}")


def _packet(read: tuple[float, bool, bytes]) -> Packet | None:
    """Parse a packet; None for anything but first fragments of TCP and UDP over IPv4."""
    us, out, data = read
    if len(data) < 28 or data[0] >> 4 != 4 or int.from_bytes(data[6:8], "big") & 0x1FFF:
        return None
    header, total = 4 * (data[0] & 15), int.from_bytes(data[2:4], "big")
    if data[9] not in (TCP, UDP) or total > len(data):
        return None
    body = data[header:total]
    ports: tuple[int, int] = _PORTS.unpack_from(body)
    return Packet(us, out, data[9], ports, body, data[1] >> 2)
