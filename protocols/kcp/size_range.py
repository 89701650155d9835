"""The sizes of datagrams that a path may carry, and the candidates of a search (size_search.py).

A size is that of a KCP datagram: the UDP payload without the envelope (envelope/), if there is one. The
envelope counts as a header, like those of IP and UDP.
"""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST, BASE, USUAL = 548, 1_200, 1_400
"""UDP payload bytes: of a 576-byte IPv4 packet, the least that every host takes; RFC 8899's BASE_PLPMTU; and
the default of deployed KCP, which is kept where the path carries more but is not made for jumbo frames."""
JUMBO_PACKET = 9_000
LARGEST_LINK = 9_216
"""Packet bytes. An interface that takes more is memory: loopback has 16,384, 65,536 or no limit."""
ETHERNET_PACKET = 1_500
PACKETS = (
    *(4_470, 2_304, 1_500, 1_492, 1_480, 1_460, 1_450, 1_440, 1_420),
    *(1_400, 1_380, 1_360, 1_340, 1_320, 1_300, 1_280),
)
"""Packet sizes that paths are known to carry: SONET, Wi-Fi, Ethernet, PPPoE, IP in IP, GRE with its options,
VXLAN, L2TP, WireGuard; 20 bytes apart between the other tunnels down to the least of IPv6."""


@dataclass(frozen=True, slots=True)
class SizeRange:
    """The sizes of one path, in bytes of a KCP datagram.

    Attributes
    ----------
    first : proven before the first data leaves, if it passes
    largest : the largest that data may have; `first` if there is nothing to gain
    tried : end of the search, `largest` or more: a size that the interfaces announce is tried even if data
        does not use it, because TCP does, and its packets vanish if the path drops them
    accepted : largest datagram that this end takes from the peer
    header_bytes : of IP, UDP and the envelope
    fixed : True if the user chose the size (`first`): it never changes, and a black hole is only named
    envelope_bytes : of the envelope alone
    """

    first: int = USUAL
    largest: int = USUAL
    tried: int = USUAL
    accepted: int = JUMBO_PACKET - 28
    header_bytes: int = 28
    fixed: bool = False
    envelope_bytes: int = 0

    @classmethod
    def of(
        cls,
        packet_bytes: int | None,
        *,
        ipv6: bool,
        envelope_bytes: int = 0,
        whole: bool = True,
        one_per_call: bool = False,
    ) -> SizeRange:
        """The range of a path that starts with an interface, and ends with a peer.

        Parameters
        ----------
        packet_bytes : longest packet of both; None: not known, so that only probes tell
        whole : True if packets are never fragmented; else no probe proves that the path carries its size
        one_per_call : True if each datagram costs a system call. Then long ones are worth it also in memory;
            with segmentation offload, a call takes as many bytes of short ones
        """
        header_bytes = cls.headers(ipv6=ipv6) + envelope_bytes
        first, longest = USUAL - envelope_bytes, JUMBO_PACKET
        if packet_bytes is not None:
            first = min(first, max(SMALLEST - envelope_bytes, packet_bytes - header_bytes))
            longest = min(packet_bytes, JUMBO_PACKET)
        in_memory = packet_bytes is not None and packet_bytes > LARGEST_LINK
        is_longer = longest > ETHERNET_PACKET and (one_per_call or not in_memory)
        largest = longest - header_bytes if whole and is_longer else first
        known = whole and packet_bytes is not None and packet_bytes <= ETHERNET_PACKET
        tried = max(largest, longest - header_bytes) if known else largest
        accepted = JUMBO_PACKET - 28 - envelope_bytes
        return cls(first, largest, tried, accepted, header_bytes, envelope_bytes=envelope_bytes)

    @classmethod
    def of_user(cls, size: int, *, ipv6: bool, envelope_bytes: int = 0) -> SizeRange:
        """The one size that the user chose, `size` bytes of UDP payload."""
        size -= envelope_bytes
        header_bytes = cls.headers(ipv6=ipv6) + envelope_bytes
        return cls(size, size, size, size, header_bytes, fixed=True, envelope_bytes=envelope_bytes)

    @property
    def base(self) -> int:
        """A size that nearly every path carries: that of the longest datagram of ACKs."""
        return BASE - self.envelope_bytes

    @property
    def smallest(self) -> int:
        """The least size that is searched."""
        return SMALLEST - self.envelope_bytes

    @staticmethod
    def headers(*, ipv6: bool) -> int:
        """Bytes of IP and UDP headers."""
        return 48 if ipv6 else 28

    def between(self, low: int, high: int) -> list[int]:
        """Candidate sizes above `low` and up to `high`, descending."""
        known = {packet - self.header_bytes for packet in PACKETS}
        own = {self.tried, self.largest, self.first, self.base, 1_000 - self.envelope_bytes, self.smallest}
        return sorted((size for size in known | own if low < size <= high), reverse=True)
