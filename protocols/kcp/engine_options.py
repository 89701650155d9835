"""What an engine is told before a conversation begins, and what it counts while it lasts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What does not change over a conversation.

    `tick_us`: stock KCP's interval. Acknowledgements wait for it unless `ack_nodelay`, data does if
    `write_delay`. `nagle`: a segment that is not full waits while anything is in flight (RFC 896).
    `ack_repeats`: how many later ACK datagrams say again what arrived out of order; only towards a peer that
    does not count repeats as passing ACKs, which stock KCP does. `first_sn`: 0 for stock peers; both ends
    must agree.
    """

    mtu: int = 1400
    send_window: int = 1024
    receive_window: int = 1024
    tick_us: int = 10_000
    ack_nodelay: bool = True
    write_delay: bool = False
    nagle: bool = True
    ack_repeats: int = 0
    first_sn: int = 0


class Counts:
    """What the engine counted since it began; plain integers."""

    __slots__ = (
        "acks_received",
        "acks_sent",
        "datagrams_received",
        "datagrams_sent",
        "early",
        "fast",
        "foreign",
        "lost",
        "queue_us",
        "queued_segments",
        "segments_sent",
        "wire_bytes_received",
        "wire_bytes_sent",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    acks_received: int
    acks_sent: int
    datagrams_received: int
    datagrams_sent: int
    early: int
    fast: int
    foreign: int  # segments that are not KCP of this conversation, or acknowledge what was never sent
    lost: int
    queue_us: int  # time between write and first transmission, summed over `queued_segments`
    queued_segments: int
    segments_sent: int  # data segments, every transmission
    wire_bytes_received: int  # UDP payload
    wire_bytes_sent: int
