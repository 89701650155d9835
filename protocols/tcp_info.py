"""Linux's struct tcp_info, read by offset and length.

The struct only ever grew at its end (include/uapi/linux/tcp.h). `getsockopt` returns as much of it as the
kernel has, so a field is there when the answer reaches to its end; else it is None, as everything is on a
system without TCP_INFO. Never 0 for "not known".
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass, fields

TCP_INFO = 11
CLOSED = 7
"""tcpi_state of a connection that is over (TCP_CLOSE)."""

_LENGTH = 256
_FORMATS = {1: struct.Struct("=B"), 4: struct.Struct("=I"), 8: struct.Struct("=Q")}
_NO_MIN_RTT = 0xFFFF_FFFF

_FIELDS: dict[str, tuple[int, int]] = {  # name: (offset, size) in bytes
    "state": (0, 1),
    "snd_mss": (16, 4),
    "unacked": (24, 4),
    "lost": (32, 4),
    "pmtu": (60, 4),
    "rtt_us": (68, 4),
    "rttvar_us": (72, 4),
    "snd_cwnd": (80, 4),
    "rcv_rtt_us": (92, 4),
    "total_retrans": (100, 4),
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
    "reord_seen": (220, 4),
    "rcv_ooopack": (224, 4),
    "snd_wnd": (228, 4),
}


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What the kernel says of one connection. Counts in segments unless the name has a unit;
    `pmtu` and `snd_wnd` in bytes, `delivery_rate` in bytes per second, `bytes_*` payload since the start.
    """

    state: int | None = None
    snd_mss: int | None = None
    unacked: int | None = None
    lost: int | None = None
    pmtu: int | None = None
    rtt_us: int | None = None
    rttvar_us: int | None = None
    snd_cwnd: int | None = None
    rcv_rtt_us: int | None = None
    total_retrans: int | None = None
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
    reord_seen: int | None = None
    rcv_ooopack: int | None = None
    snd_wnd: int | None = None

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
    def queue_us(self) -> int | None:
        """How long the data not transmitted yet will wait at the present delivery rate."""
        if self.notsent_bytes is None or not self.delivery_rate:
            return None
        return self.notsent_bytes * 1_000_000 // self.delivery_rate


def read(sock: socket.socket) -> TcpInfo:
    """The state of a connection; all None where the system does not say."""
    if not sys.platform.startswith("linux"):
        return TcpInfo()
    try:
        return parse(sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _LENGTH))
    except OSError:
        return TcpInfo()


def parse(raw: bytes) -> TcpInfo:
    """The fields that `raw`, a struct tcp_info or the beginning of one, reaches to."""
    known: dict[str, int | None] = {
        name: _FORMATS[size].unpack_from(raw, offset)[0]
        for name, (offset, size) in _FIELDS.items()
        if offset + size <= len(raw)
    }
    # These say "no sample yet" with a value of their own.
    if known.get("min_rtt_us") == _NO_MIN_RTT:
        known["min_rtt_us"] = None
    for name in ("rtt_us", "rcv_rtt_us"):
        known[name] = known.get(name) or None
    return TcpInfo(**known)


assert _FIELDS.keys() == {field.name for field in fields(TcpInfo)}
