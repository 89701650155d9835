"""The payload of a sender: blocks, at a rate, until an end.

    Budget   bytes that all streams of one direction share (-n, -k): handed out exactly, never more
    Pace     one stream's rate (-b): the time at which the next bytes may go
    Payload  both, in the form that a transport reads; implements `iperfpy.protocols.contract.Load`

`wait_us` and `take` are called from one thread, `begin` and `stop` from the event loop's:
a budget has a lock, and everything else is either written by one thread or a flag.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from iperfpy.plan import Plan
    from iperfpy.protocols.contract import Transport
    from iperfpy.protocols.settings import Settings

FOREVER = -1
LONGEST_WAIT_US = 50_000
"""Longest wait: a sending thread that sleeps notices `stop` after that time at the latest."""

SLICE_BYTES = 12_500
SHORTEST_SLICE_US, LONGEST_SLICE_US = 1_000, 10_000
SMALLEST_SLICE_BYTES = 1_400
"""A paced block goes out in slices of about `SLICE_BYTES`, one per 10 ms at 10 Mb/s: a slow rate needs few
wake-ups. From 100 Mb/s on a slice lasts 1 ms, the shortest sleep of an event loop, so that the figure of
a second is exact to a thousandth. None is smaller than about one packet."""
WHOLE_SLICE_US = 250
"""Datagrams, which cannot be cut, go out in bursts of at most this duration, or one at a time."""

HELD_WAIT_US = 5_000
"""Pause before a sender asks a spent budget again that may be lifted."""

FILE_WAIT_US = 1_000
"""Pause before a pipe that had nothing to read is asked again."""

STALL_US = 20_000
"""Longest backlog that pacing makes up after a stall; anything older is dropped, so that a stall is not
followed by a burst."""


class Budget:
    """Bytes that several senders share.

    Parameters
    ----------
    total_bytes : int
        0: unlimited. The budget counts from `begin` on; before that, in the omitted period, all is granted.
    may_be_lifted : bool
        Senders wait at its end, because `lift` may let them go on; else they have finished.

    Attributes
    ----------
    spent_wait_us : int
        `Load.wait_us` of a sender that gets nothing.
    """

    def __init__(self, total_bytes: int, *, may_be_lifted: bool = False) -> None:
        self.spent_wait_us = HELD_WAIT_US if may_be_lifted else FOREVER
        self._left = total_bytes
        self._limited = False
        self._total = total_bytes
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Begin to count."""
        with self._lock:
            self._limited = self._total > 0

    def lift(self) -> None:
        """Grant everything from now on."""
        with self._lock:
            self._limited, self._total = False, 0

    def claim(self, size_bytes: int, unit_bytes: int = 1) -> int:
        """Take up to `size_bytes` from the rest, which is rounded up to whole units; 0 if nothing is left."""
        if not self._total:
            return size_bytes
        with self._lock:
            if not self._limited:
                return size_bytes
            granted = min(size_bytes, -(-self._left // unit_bytes) * unit_bytes)
            self._left = max(0, self._left - granted)
            return granted


class Pace:
    """The times at which the next bytes of a stream may go.

    Parameters
    ----------
    rate_bps : int
        Payload bits per second, above 0.
    burst_bytes : int
        Bytes sent back to back before the pace waits (`-b rate/blocks`); 0 for a smooth flow.
    """

    def __init__(self, rate_bps: int, burst_bytes: int = 0) -> None:
        self._us_per_byte = 8e6 / rate_bps
        self._burst_bytes = burst_bytes
        self._in_burst = 0
        self._next_us: float | None = None

    def wait_us(self, now_us: int) -> int:
        """Microseconds from `now_us` until more may go."""
        if self._next_us is None:
            self._next_us = float(now_us)
        if 0 < self._in_burst < self._burst_bytes:
            return 0
        self._in_burst = 0
        self._next_us = max(self._next_us, now_us - STALL_US)
        return max(0, min(LONGEST_WAIT_US, int(self._next_us - now_us + 0.999)))

    def spend(self, size_bytes: int) -> None:
        """Note that `size_bytes` were sent."""
        if self._next_us is not None:
            self._next_us += size_bytes * self._us_per_byte
        if self._burst_bytes:
            self._in_burst += size_bytes


class Source(Protocol):
    """A file that is sent."""

    def read_into(self, block: memoryview) -> int | None:
        """Fill the start of the block; give the number of bytes, 0 at the end, None if none are there yet."""


class Payload:
    """One stream's payload. Implements `iperfpy.protocols.contract.Load`.

    Parameters
    ----------
    block_bytes : int
        Length of a block; a paced one goes out in smaller slices.
    budget : Budget
        Shared with the other streams of this direction.
    rate_bps, burst_blocks : int
        As in `Plan`; 0 means unlimited, and no bursts.
    datagrams, blocks_per_take : bool, int
        True: blocks are never cut, and `take` returns at most that many (`Transport.blocks_per_take`).
    bulk_bytes : int
        Without a rate, offer so much at once even if a block is shorter (`Transport.bulk_bytes`).
    whole_blocks : bool
        Take whole blocks from the budget, although they go out in slices.
    payload : callable
        Returns a read-only block of a given size, which is sent again and again.
    """

    def __init__(
        self,
        block_bytes: int,
        budget: Budget,
        rate_bps: int = 0,
        burst_blocks: int = 0,
        datagrams: bool = False,
        blocks_per_take: int = 1,
        bulk_bytes: int = 0,
        payload: Callable[[int], memoryview] = lambda size: memoryview(os.urandom(size)),
        whole_blocks: bool = False,
    ) -> None:
        self._budget = budget
        self._pace = Pace(rate_bps, burst_blocks * block_bytes) if rate_bps else None
        self._unit_bytes = block_bytes if datagrams or whole_blocks else 1
        if datagrams:
            blocks = _slice_blocks(block_bytes, rate_bps, burst_blocks, blocks_per_take)
            self._slice_bytes = block_bytes * blocks
        else:
            at_once = block_bytes if rate_bps else max(block_bytes, bulk_bytes)
            self._slice_bytes = _slice_bytes(at_once, rate_bps, burst_blocks)
        # Several slices may make a block: what is claimed is always whole units.
        self._claim_bytes = -(-self._slice_bytes // self._unit_bytes) * self._unit_bytes
        self._block = payload(max(block_bytes, self._slice_bytes))
        self._file: Source | None = None
        self._claimed = self._granted = 0
        self._stopped = False

    @classmethod
    def of(cls, plan: Plan, transport: Transport, budget: Budget, *, whole_blocks: bool = False) -> Payload:
        """The payload of one sender of this test. A block length that the user chose is kept exactly."""
        usual = plan.block_bytes == transport.block_bytes(plan.settings)
        bulk_bytes = transport.bulk_bytes if usual else 0
        return cls(
            plan.block_bytes,
            budget,
            plan.rate_bps,
            plan.burst_blocks,
            transport.datagrams,
            transport.blocks_per_take,
            bulk_bytes,
            partial(_payload, transport, plan.settings),
            whole_blocks,
        )

    def read_from(self, file: Source) -> None:
        """Send the content of the file, once, in place of generated payload."""
        self._file = file
        self._block = memoryview(bytearray(len(self._block)))

    @property
    def may_block(self) -> bool:
        """True if a file is read, which may wait for a disk."""
        return self._file is not None

    def wait_us(self, now_us: int) -> int:
        """Microseconds until `take` may be called: 0 now, -1 never, because there is no more payload."""
        # The budget is asked last: a slice that it grants must be sent.
        if self._stopped:
            return FOREVER
        if self._pace is not None:
            wait = self._pace.wait_us(now_us)
            if wait:
                return wait
        if not self._granted:
            self._claimed = self._claimed or self._budget.claim(self._claim_bytes, self._unit_bytes)
            if not self._claimed:
                return self._budget.spent_wait_us
            granted = min(self._claimed, self._slice_bytes)
            if self._file is not None:
                read = self._file.read_into(self._block[:granted])
                if read is None:
                    return FILE_WAIT_US
                granted = read  # a pipe gives less than a slice: the rest of the claim is for the next one
            self._granted, self._claimed = granted, self._claimed - granted
        return 0 if self._granted else FOREVER

    def take(self) -> memoryview:
        """The next slice, read-only, as long as `blocks_per_take` or `bulk_bytes` say, else one block."""
        size, self._granted = self._granted, 0
        if self._pace is not None:
            self._pace.spend(size)
        return self._block[:size]

    def stop(self) -> None:
        """Offer no more payload."""
        self._stopped = True


@lru_cache(maxsize=4)
def _payload(transport: Transport, settings: Settings, size_bytes: int) -> memoryview:
    """One read-only block for all streams of a test, so that they share the processor's cache."""
    return memoryview(transport.payload(settings, size_bytes))


def _slice_bytes(block_bytes: int, rate_bps: int, burst_blocks: int) -> int:
    if not rate_bps or burst_blocks:
        return block_bytes
    shortest, longest = (rate_bps * us // 8_000_000 for us in (SHORTEST_SLICE_US, LONGEST_SLICE_US))
    smooth = min(max(SLICE_BYTES, shortest), longest)
    return min(block_bytes, max(SMALLEST_SLICE_BYTES, smooth))


def _slice_blocks(block_bytes: int, rate_bps: int, burst_blocks: int, most: int) -> int:
    if not rate_bps or burst_blocks:
        return 1 if burst_blocks else most
    return max(1, min(most, rate_bps * WHOLE_SLICE_US // (8_000_000 * block_bytes)))
