"""Facts about a TCP connection from the kernel: Linux's struct tcp_info, and the congestion control.

The struct is read by offset and length. It only ever grew at its end (include/uapi/linux/tcp.h), and
`getsockopt` returns as much of it as the kernel has. A field beyond the end of the answer is None, and so are
all fields on a system without TCP_INFO; 0 never means "not known".
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, fields

from iperfpy.protocols.operating_system import TCP_CONGESTION, TCP_INFO

CLOSED = 7
"""tcpi_state of a connection that is over (TCP_CLOSE)."""

_LENGTH = 256
_FORMATS = {1: struct.Struct("=B"), 4: struct.Struct("=I"), 8: struct.Struct("=Q")}
_NO_MIN_RTT = 0xFFFF_FFFF
IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, TCP_HEADER_BYTES, STAMP_BYTES = 20, 40, 20, 12
_OPTION_STAMPS = 1
"""TCPI_OPT_TIMESTAMPS."""

_FIELDS: dict[str, tuple[int, int]] = {  # name: (offset, size) in bytes
    "state": (0, 1),
    "options": (5, 1),
    "snd_mss": (16, 4),
    "lost": (32, 4),
    "retrans_out": (36, 4),
    "last_data_recv_ms": (52, 4),
    "last_ack_recv_ms": (56, 4),
    "pmtu": (60, 4),
    "rtt_us": (68, 4),
    "rttvar_us": (72, 4),
    "snd_cwnd": (80, 4),
    "rcv_rtt_us": (92, 4),
    "total_retrans": (100, 4),
    "bytes_acked": (120, 8),
    "bytes_received": (128, 8),
    "segs_out": (136, 4),
    "segs_in": (140, 4),
    "notsent_bytes": (144, 4),
    "min_rtt_us": (148, 4),
    "data_segs_in": (152, 4),
    "data_segs_out": (156, 4),
    "delivery_rate": (160, 8),
    "busy_us": (168, 8),
    "rwnd_limited_us": (176, 8),
    "sndbuf_limited_us": (184, 8),
    "bytes_sent": (200, 8),
    "bytes_retrans": (208, 8),
    "dsack_dups": (216, 4),
    "reord_seen": (220, 4),
    "rcv_ooopack": (224, 4),
    "snd_wnd": (228, 4),
}


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """The kernel's figures of one connection. Counts are in segments unless the name has a unit; `pmtu` and
    `snd_wnd` are in bytes, `delivery_rate` in bytes per second, `bytes_*` is payload since the start.
    """

    state: int | None = None
    options: int | None = None
    snd_mss: int | None = None
    lost: int | None = None
    retrans_out: int | None = None
    last_data_recv_ms: int | None = None
    last_ack_recv_ms: int | None = None
    pmtu: int | None = None
    rtt_us: int | None = None
    rttvar_us: int | None = None
    snd_cwnd: int | None = None
    rcv_rtt_us: int | None = None
    total_retrans: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    segs_out: int | None = None
    segs_in: int | None = None
    notsent_bytes: int | None = None
    min_rtt_us: int | None = None
    data_segs_in: int | None = None
    data_segs_out: int | None = None
    delivery_rate: int | None = None
    busy_us: int | None = None
    rwnd_limited_us: int | None = None
    sndbuf_limited_us: int | None = None
    bytes_sent: int | None = None
    bytes_retrans: int | None = None
    dsack_dups: int | None = None
    reord_seen: int | None = None
    rcv_ooopack: int | None = None
    snd_wnd: int | None = None

    @property
    def found_lost(self) -> int | None:
        """Segments that the sender has found to be lost: those sent again, and those that wait for it. Later
        reports of duplicates (DSACK, RFC 2883) take some of them back."""
        if self.total_retrans is None:
            return None
        # `lost` also has those that were sent again and are under way.
        waiting = max(0, (self.lost or 0) - (self.retrans_out or 0))
        return max(0, self.total_retrans + waiting - (self.dsack_dups or 0))

    @property
    def uses_stamps(self) -> bool:
        """True if every segment has a time stamp (RFC 7323)."""
        return bool((self.options or 0) & _OPTION_STAMPS)

    def wire_bytes(self, *, ipv6: bool) -> tuple[int, int] | None:
        """Bytes of the IP packets sent and received so far; None if the system does not tell. Payload that
        arrived again is counted by its headers only."""
        sent, received, out, arrived = self.bytes_sent, self.bytes_received, self.segs_out, self.segs_in
        if sent is None or received is None or out is None or arrived is None:
            return None
        headers = (IPV6_HEADER_BYTES if ipv6 else IPV4_HEADER_BYTES) + TCP_HEADER_BYTES
        headers += STAMP_BYTES if self.uses_stamps else 0
        return sent + out * headers, received + arrived * headers

    @property
    def cwnd_bytes(self) -> int | None:
        if self.snd_cwnd is None or self.snd_mss is None:
            return None
        return self.snd_cwnd * self.snd_mss

    @property
    def first_sent_bytes(self) -> int | None:
        """Payload that has left the send queue, each byte counted once."""
        if self.bytes_sent is None or self.bytes_retrans is None:
            return None
        return self.bytes_sent - self.bytes_retrans

    @property
    def last_recv_us(self) -> int:
        """Time since the peer's last segment, in whole milliseconds of the kernel; 0 if it is not known."""
        ages_ms = [age for age in (self.last_data_recv_ms, self.last_ack_recv_ms) if age is not None]
        return 1_000 * min(ages_ms, default=0)

    @property
    def queue_us(self) -> int | None:
        """Time until the data that is not transmitted yet will have left at the present delivery rate."""
        if self.notsent_bytes is None or not self.delivery_rate:
            return None
        return self.notsent_bytes * 1_000_000 // self.delivery_rate


def read(sock: socket.socket) -> TcpInfo:
    """The state of a connection; all None if the system does not tell."""
    try:
        return parse(sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _LENGTH))
    except OSError:
        return TcpInfo()


def congestion_control_of(sock: socket.socket) -> str | None:
    """The congestion control algorithm of a TCP socket; None if the system does not tell."""
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16)
    except OSError:  # a socket of another protocol, or a system without the option
        return None
    return raw.split(b"\0", 1)[0].decode("ascii", "replace") or None


def parse(raw: bytes) -> TcpInfo:
    """The fields that `raw`, a struct tcp_info or the beginning of one, reaches to."""
    known: dict[str, int | None] = {
        name: _FORMATS[size].unpack_from(raw, offset)[0]
        for name, (offset, size) in _FIELDS.items()
        if offset + size <= len(raw)
    }
    # The kernel marks "no sample yet" with these values.
    if known.get("min_rtt_us") == _NO_MIN_RTT:
        known["min_rtt_us"] = None
    for name in ("rtt_us", "rcv_rtt_us"):
        known[name] = known.get(name) or None
    return TcpInfo(**known)


assert _FIELDS.keys() == {field.name for field in fields(TcpInfo)}
