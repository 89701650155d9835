"""The options of an engine, fixed before a conversation begins."""

from __future__ import annotations

from dataclasses import dataclass

from iperfpy.protocols.kcp.size_range import SizeRange
from iperfpy.protocols.memory_budget import MemoryBudget

MAX_WINDOW = 65_535
"""Widest window, segments: the window field of the header has 16 bits."""


ACK_RANGES = "kcp-ack-ranges"
"""The feature by which two ends agree on acknowledgements in ranges (ack_ranges.py)."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options that hold for the whole conversation.

    Attributes
    ----------
    mtu : bytes per datagram at the beginning, KCP header included
    sizes : the sizes of datagrams that the path may carry: the engine follows them. None: the mtu holds
    send_window, receive_window : segments
    tick_us : stock KCP's interval. ACKs wait for a tick unless `ack_nodelay`, data does if `write_delay`
    nagle : a segment that is not full waits while anything is in flight (RFC 896)
    ack_repeats : how many later ACK datagrams repeat the ACKs of segments that arrived out of order; if they
        are timed, only while ACKs are being lost. Only for peers that do not count repeats as duplicate ACKs,
        as stock KCP does
    ack_share : acknowledgements are timed (ack_timing.py), and take at most this share of the bytes that
        arrive; 0: they leave at once, or with a tick
    ack_ranges : both ends know acknowledgements in ranges (ack_ranges.py), which replace ACK segments
    packs : short segments share a datagram as far as they fit, as stock KCP's do
    boundaries : each write begins a new segment, as in stock KCP's message mode; else writes are a stream
    first_sn : first serial number of both ends: 0 for stock peers
    longest_batch : most datagrams of a batch that `transmit` returns; None: as many as a kernel takes in one
        segmentation-offload send
    memory : grants the bytes of the send window; None: as many as the window needs
    """

    mtu: int = 1400
    send_window: int = 1024
    receive_window: int = 1024
    tick_us: int = 10_000
    ack_nodelay: bool = True
    write_delay: bool = False
    nagle: bool = True
    ack_repeats: int = 0
    ack_share: float = 0.0
    ack_ranges: bool = False
    packs: bool = False
    boundaries: bool = False
    first_sn: int = 0
    longest_batch: int | None = None
    memory: MemoryBudget | None = None
    sizes: SizeRange | None = None

    @property
    def accepted_mtu(self) -> int:
        """The longest datagram that is taken from the peer."""
        return self.mtu if self.sizes is None else self.sizes.accepted

    @property
    def envelope_bytes(self) -> int:
        """Bytes that an envelope (envelope/) adds to each datagram on its way to the socket."""
        return 0 if self.sizes is None else self.sizes.envelope_bytes
