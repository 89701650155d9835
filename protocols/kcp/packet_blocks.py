"""Memory of datagrams until they are acknowledged: blocks of up to 512, from a pool.

    PacketPool      the free blocks
    PacketBlock     datagrams, a row each
    HeldPackets     the blocks of one send window

All streams share `POOL`, which hands out first what was given back last. So the memory in use is that of the
data in flight at the time, which stays in the processor's cache however many streams there are. With a ring
of its own for each stream, 128 streams wrote to 180 MB in turn and had 4 MB in flight.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp import wire
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Bytes, Int64s

ROWS, FEWEST_ROWS, BLOCK_BYTES = 512, 16, 1 << 20
"""Most and fewest datagrams of a block, and its size if it has more than the fewest. With 256 datagrams, a
single stream carried a tenth less; with 1,024, 128 streams of kcp-bbr did."""
KEPT_BYTES = 32 << 20
"""Most bytes of free blocks that are kept."""

Lengths = NDArray[np.uint32]

_NUMBERS = np.arange(ROWS, dtype=np.uint64) << np.uint64(32)
"""Serial numbers from 0 on, in the place that they have in the second word of a header."""


class PacketBlock:
    """Whole datagrams, a row each, with the words of the header as columns.

    A run of rows is sent from here without a copy. The payload is written when the application writes, and
    the header at each transmission.

    Attributes
    ----------
    rows, width : number of rows, and bytes of each
    packets : uint8 (rows, width): a row holds one datagram, and may be longer than it
    flat : the same memory, (rows * width,)
    """

    __slots__ = ("_ack", "_ends", "_leading", "_stamps", "_ts", "flat", "packets", "rows", "width")

    def __init__(self, rows: int, width: int) -> None:
        self.rows, self.width = rows, width
        self.packets: Bytes = np.empty((rows, width), np.uint8)
        self.flat = self.packets.reshape(-1)
        fields = np.ndarray((rows,), wire.FIELDS, self.packets, 0, (width,))
        self._ts, self._ack = fields["ts"], fields["una"]
        # The header in words, half as many as fields: conv, cmd, frg and wnd; ts and sn; una and len.
        self._leading, self._stamps, self._ends = (
            np.ndarray((rows,), "<u8", self.packets, at, (width,)) for at in (0, 8, 16)
        )

    def fill(self, start: int, stop: int, payload: Bytes, mss: int) -> int:
        """Write full payloads, `mss` bytes each, into the first of rows [start, stop). Returns the bytes
        taken: a rest of `payload` that fills no row is left to `put`."""
        whole = min(stop - start, len(payload) // mss)
        rows = payload[: whole * mss].reshape(whole, mss)
        self.packets[start : start + whole, HEADER_BYTES : HEADER_BYTES + mss] = rows
        return whole * mss

    def put(self, row: int, at: int, payload: Bytes) -> None:
        """Write payload bytes from offset `at` of a row on."""
        self.packets[row, HEADER_BYTES + at : HEADER_BYTES + at + len(payload)] = payload

    def stamp(
        self,
        start: int,
        stop: int,
        number: int,
        leading: int,
        stamp_us: int,
        una: int,
        lengths: int | Lengths,
    ) -> None:
        """Write the headers of rows [start, stop) for their first transmission.

        Parameters
        ----------
        number : serial number of the first row
        leading : conv, cmd, frg and wnd
        lengths : payload bytes of every row, or of each, uint32 (stop - start,)
        """
        self._leading[start:stop] = leading
        first = np.uint64((number & wire.MASK) << 32 | stamp_us & wire.MASK)
        self._stamps[start:stop] = _NUMBERS[: stop - start] + first  # wraps in the upper half, as numbers do
        if isinstance(lengths, int):
            self._ends[start:stop] = lengths << 32 | una & wire.MASK
        else:
            self._ends[start:stop] = lengths.astype(np.uint64) << np.uint64(32) | np.uint64(una & wire.MASK)

    def stamp_again(self, rows: Int64s, leading: int, stamp_us: int, una: int) -> None:
        """Renew the headers of these rows, (n,), for a retransmission."""
        self._ts[rows] = stamp_us & wire.MASK
        self._ack[rows] = una & wire.MASK
        self._leading[rows] = leading

    def copy(self, other: PacketBlock) -> None:
        """Take over the datagrams of a block whose rows are not longer."""
        self.packets[:, : other.width] = other.packets


class PacketPool:
    """Free blocks, for the streams of all tests.

    Attributes
    ----------
    kept_bytes : of the free blocks, at most `KEPT_BYTES`
    """

    def __init__(self) -> None:
        self.kept_bytes = 0
        # By rows and width: the kind of block that was given back least recently comes first.
        self._free: dict[tuple[int, int], list[PacketBlock]] = {}

    def take(self, rows: int, width: int) -> PacketBlock:
        """A block of so many rows of `width` bytes; their content is undefined."""
        free = self._free.get((rows, width))
        if not free:
            return PacketBlock(rows, width)
        block = free.pop()
        self.kept_bytes -= block.packets.nbytes
        return block

    def give(self, block: PacketBlock) -> None:
        """Take a block back. Views of it are no longer valid."""
        kind = block.rows, block.width
        free = self._free.pop(kind, [])
        free.append(block)
        self._free[kind] = free
        self.kept_bytes += block.packets.nbytes
        while self.kept_bytes > KEPT_BYTES:
            kind = next(iter(self._free))
            oldest = self._free[kind]
            if oldest:
                self.kept_bytes -= oldest.pop(0).packets.nbytes
            if not oldest:
                del self._free[kind]

    def clear(self) -> None:
        """Free all blocks."""
        self._free.clear()
        self.kept_bytes = 0


POOL = PacketPool()


class HeldPackets:
    """The datagrams of one send window, in blocks: segment `sn` is in row `sn % rows` of block `sn // rows`.

    Parameters
    ----------
    longest : bytes of the longest datagram

    Attributes
    ----------
    rows : of a block, a power of two
    lent : True while batches that view the blocks have not left; `settle` ends that
    """

    __slots__ = ("_blocks", "_pool", "_retired", "_shift", "lent", "rows")

    def __init__(self, longest: int, pool: PacketPool) -> None:
        self._pool = pool
        self._shift = min(ROWS, max(FEWEST_ROWS, BLOCK_BYTES // longest)).bit_length() - 1
        self.rows = 1 << self._shift
        self._blocks: dict[int, PacketBlock] = {}  # by serial number // rows
        self._retired: list[PacketBlock] = []  # free, but batches view them
        self.lent = False

    @property
    def held_bytes(self) -> int:
        """Memory of the blocks."""
        return sum(block.packets.nbytes for block in (*self._blocks.values(), *self._retired))

    def block(self, number: int, width: int) -> PacketBlock:
        """The block of a segment; one with rows of `width` bytes comes from the pool if there is none yet."""
        place = number >> self._shift
        block = self._blocks.get(place)
        if block is None:
            block = self._blocks[place] = self._pool.take(self.rows, width)
        return block

    def widen(self, number: int, width: int) -> None:
        """Make the rows of a segment's block `width` bytes long, if there is one and they are shorter."""
        place = number >> self._shift
        block = self._blocks.get(place)
        if block is not None and block.width < width:
            self._blocks[place] = self._pool.take(self.rows, width)
            self._blocks[place].copy(block)
            self._give(block)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The rows [start, stop) of those segments [first, last), first < last, that are in one block with
        `first`."""
        start = first & self.rows - 1
        return start, min(start + last - first, self.rows)

    def runs(self, first: int, last: int) -> Iterator[tuple[PacketBlock, int, int, int]]:
        """The datagrams of segments [first, last), which are held, as (block, start, stop, number): rows
        [start, stop), the first of which is segment `number`."""
        while first < last:
            start, stop = self.span(first, last)
            yield self._blocks[first >> self._shift], start, stop, first
            first += stop - start

    def groups(self, numbers: Int64s) -> Iterator[tuple[PacketBlock, Int64s]]:
        """The datagrams of segments (n,), n > 0, which are held, as (block, rows), in order."""
        places = numbers >> self._shift
        changes = places[1:] != places[:-1]
        groups = np.split(numbers, np.flatnonzero(changes) + 1) if changes.any() else [numbers]
        for group in groups:
            yield self._blocks[int(group[0]) >> self._shift], group & self.rows - 1

    def copies(self, numbers: Int64s, size: int) -> Bytes:
        """The first `size` bytes of the datagrams of segments (n,), n > 0, which are held: (n, size)."""
        copied, at = np.empty((len(numbers), size), np.uint8), 0
        for block, rows in self.groups(numbers):
            copied[at : at + len(rows)] = block.packets[rows, :size]
            at += len(rows)
        return copied

    def acknowledged(self, first: int, una: int) -> None:
        """Give back the blocks that have only segments below `una`; `first` is the oldest one held."""
        for place in range(first >> self._shift, una >> self._shift):
            block = self._blocks.pop(place, None)
            if block is not None:  # `release` leaves none
                self._give(block)

    def _give(self, block: PacketBlock) -> None:
        # A peer may acknowledge data that waits for room in the socket: another stream must not write there.
        if self.lent:
            self._retired.append(block)
        else:
            self._pool.give(block)

    def settle(self) -> None:
        """The batches that view the blocks have left, or never will."""
        self.lent = False
        while self._retired:
            self._pool.give(self._retired.pop())

    def release(self) -> None:
        """Free all blocks, those of the pool as well: a server keeps nothing of a test that is over, and
        streams that go on take new ones."""
        self.settle()
        self._blocks.clear()
        self._pool.clear()
