"""Segments that leave, as batches of datagrams: views of the send window's blocks where that is possible.

new(first, last)     first transmissions: rows of blocks as they lie, no copy
again(numbers)       retransmissions: rows from anywhere in the window, gathered
loose(data, stride)  ACK segments and window probes
take()               the batches of this transmission, in order

Both stock implementations fill a datagram with segments, ACKs first, as long as they fit. Full segments do
not; so only short ones share a datagram: messages, and ACKs with them.
"""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.datagrams.batch import MAX_BYTES, MAX_DATAGRAMS, DatagramBatch
from iperfpy.protocols.kcp.packet_blocks import PacketBlock
from iperfpy.protocols.kcp.parts import split
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import HEADER_BYTES, Bytes, Int64s


class Outbound:
    """Collects the datagrams of a transmission into batches.

    Parameters
    ----------
    longest_batch : most datagrams per batch; None: as many as a kernel takes in one send
    packs : True if segments that fit share a datagram, as stock KCP's do

    Attributes
    ----------
    splits : True if segments longer than a datagram leave in parts (parts.py), else whole
    """

    def __init__(self, sending: SendWindow, longest_batch: int | None, *, packs: bool = False) -> None:
        self.splits = False
        self._packs = packs
        self._sending = sending
        self._longest_batch = longest_batch
        self._out: list[DatagramBatch] = []
        self._alone: set[int] = set()  # batches, by their place, whose size is what they ask the path about

    @property
    def _longest(self) -> int:
        return self._longest_batch or min(MAX_DATAGRAMS, MAX_BYTES // self._sending.mtu)

    def take(self) -> list[DatagramBatch]:
        """The batches added since the last call. They are views of blocks, and valid until `settle`."""
        out, self._out = self._out, []
        if self._packs and len(out) > 1:
            out = self._packed(out)
        if self._alone:
            self._alone.clear()
        return out

    def _packed(self, batches: list[DatagramBatch]) -> list[DatagramBatch]:
        """Join neighbours that are one datagram each and fit into one."""
        packed, mtu = batches[:1], self._sending.mtu
        for at, batch in enumerate(batches[1:], 1):
            last = packed[-1]
            size = last.last_size + batch.last_size
            joins = at not in self._alone and at - 1 not in self._alone
            if joins and last.count == batch.count == 1 and size <= mtu:
                data = np.concatenate((last.data[: last.last_size], batch.data[: batch.last_size]))
                packed[-1] = DatagramBatch(data, size, 1, size)
            else:
                packed.append(batch)
        return packed

    def new(self, first: int, last: int) -> None:
        """Add the segments [first, last), for the first time."""
        for block, start, stop, number in self._sending.packets.runs(first, last):
            if block.width == self._sending.mtu:
                self._add_rows(block, start, stop, number)
            else:
                self._add_uneven(np.arange(number, number + stop - start))

    def _add_rows(self, block: PacketBlock, start: int, stop: int, first: int) -> None:
        """Add rows [start, stop) of a block, which are the segments from `first` on, none longer than a
        datagram."""
        sending, mtu, longest = self._sending, self._sending.mtu, self._longest
        last, cuts = mtu, [stop]
        if sending.shorts:
            # Segmentation offload allows only the last datagram of a batch to be shorter: cut after each.
            lengths = sending.lengths(np.arange(first, first + stop - start))
            cuts = [start + int(i) + 1 for i in np.flatnonzero(lengths != sending.mss)]
            if not cuts or cuts[-1] != stop:
                cuts.append(stop)
        flat, first_row = block.flat, start
        for cut in cuts:
            while start < cut:
                end = min(cut, start + longest)
                if sending.shorts:
                    last = HEADER_BYTES + int(lengths[end - 1 - first_row])
                data = flat[start * mtu : (end - 1) * mtu + last]
                self._out.append(DatagramBatch(data, mtu if end - start > 1 else last, end - start, last))
                start = end

    def again(self, numbers: Int64s) -> None:
        """Add these segments, (n,), as copies."""
        sending, mtu = self._sending, self._sending.mtu
        lengths = sending.lengths(numbers)
        if not sending.shorts or (lengths == sending.mss).all():
            self._add_alike(numbers, mtu)
        elif (lengths > sending.mss).any():
            self._add_uneven(numbers)
        else:
            for at, length in enumerate(lengths.tolist()):
                self._add_alike(numbers[at : at + 1], HEADER_BYTES + length)

    def _add_alike(self, numbers: Int64s, size: int) -> None:
        """Add segments of one length, (n,), as copies."""
        for at in range(0, len(numbers), self._longest):
            copied = self._sending.packets.copies(numbers[at : at + self._longest], size)
            self._out.append(DatagramBatch(copied.reshape(-1), size, len(copied), size))

    def _add_uneven(self, numbers: Int64s) -> None:
        """Add these segments, (n,), of a block that was made for datagrams of another size: copies, by
        length. Those that are longer than a datagram leave in parts."""
        sending = self._sending
        lengths = sending.lengths(numbers)
        for length in np.unique(lengths).tolist():
            alike, size = numbers[lengths == length], HEADER_BYTES + length
            if size > sending.mtu and self.splits:
                self._out += split(sending.packets.copies(alike, size), sending.mtu)
            else:
                self._add_alike(alike, size)

    def loose(self, data: Bytes, stride: int) -> None:
        """Add segments without payload, back to back in `data`, `stride` bytes per datagram."""
        longest = stride * self._longest
        for at in range(0, len(data), longest):
            self._out.append(DatagramBatch.of(data[at : at + longest], stride))

    def alone(self, data: Bytes) -> None:
        """Add a datagram that is joined with no other, since it asks the path about its size."""
        self._alone.add(len(self._out))
        self._out.append(DatagramBatch.of(data, len(data)))
