"""kcp-go's forward error correction written out independently: a packet at a time, without tables."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache


def times(left: int, right: int) -> int:
    """The product in GF(2^8) with the polynomial 0x11D, bit by bit."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        if left & 0x100:
            left ^= 0x11D
        right >>= 1
    return product


@cache
def power(base: int, exponent: int) -> int:
    """`base` to the `exponent`; 0 to the 0 is 1."""
    result = 1
    for _ in range(exponent):
        result = times(result, base)
    return result


def interpolated(shards: dict[int, bytes], at: int) -> bytes:
    """The shard at position `at`, from as many shards as a set has data: klauspost's matrix is that of a
    polynomial through the data shards, whose argument is the position. Lagrange's formula evaluates it."""
    result = 0
    for position, shard in shards.items():
        factor = 1
        for other in shards:
            if other != position:
                inverse = power(position ^ other, 254)
                factor = times(factor, times(at ^ other, inverse))
        result ^= int.from_bytes(shard.translate(_row(factor)))
    return result.to_bytes(len(shard))


@cache
def _row(factor: int) -> bytes:
    """The products of one factor."""
    return bytes(times(factor, value) for value in range(256))


class SlowEncoder:
    """The sender, a packet at a time."""

    def __init__(self, data: int, parity: int, first: int = 0) -> None:
        self.data, self.parity, self.next = data, parity, first
        self.paws = 0xFFFFFFFF // (data + parity) * (data + parity)
        self.shards: list[bytes] = []
        self.last_ms: float = -1e18

    def packet(self, payload: bytes, now_ms: float) -> list[bytes]:
        shard = struct.pack("<H", 2 + len(payload)) + payload
        out = [struct.pack("<IH", self.next, 0xF1) + shard]
        self.next += 1
        self.shards.append(shard)
        if len(self.shards) == self.data:
            longest = max(map(len, self.shards))
            known = {at: shard.ljust(longest, b"\0") for at, shard in enumerate(self.shards)}
            for index in range(self.parity):
                if now_ms - self.last_ms < 500:
                    parity = interpolated(known, self.data + index)
                    out.append(struct.pack("<IH", self.next, 0xF2) + parity)
                self.next += 1
            self.next %= self.paws
            self.shards = []
        self.last_ms = now_ms
        return out


def sealed(encoder: SlowEncoder, payloads: Iterable[bytes], now_ms: float) -> list[bytes]:
    """The packets of several payloads that leave at once."""
    return [packet for payload in payloads for packet in encoder.packet(payload, now_ms)]
