"""Applications that write into an endpoint: without end, with a rate or an end, or not at all."""

from __future__ import annotations

from typing import Protocol

BLOCK_BYTES = 65_536


class Writer(Protocol):
    """The sending half of an endpoint."""

    def writable(self) -> int:
        """The number of bytes that `write` would accept now."""

    def write(self, data: memoryview, now_us: int) -> int:
        """Queue bytes; return the number accepted, which may be less than offered."""


class Application(Protocol):
    """Feeds one endpoint."""

    def feed(self, now_us: int) -> int:
        """Write all data that is available and fits; return the number of bytes written."""

    def due_us(self) -> int | None:
        """The time at which more data becomes available; None if only the endpoint's room is awaited."""


class Silent:
    """Writes nothing: the application of a receiver."""

    def feed(self, now_us: int) -> int:
        return 0

    def due_us(self) -> int | None:
        return None


class Bulk:
    """Has data without end, or `total_bytes` of it. It repeats `pattern` (zeros by default)."""

    def __init__(self, writer: Writer, total_bytes: int | None = None, pattern: bytes = b"") -> None:
        self._writer = writer
        self._left = total_bytes
        self._pattern = memoryview(pattern or bytes(BLOCK_BYTES))
        self.written_bytes = 0

    def feed(self, now_us: int) -> int:
        taken = 0
        while (room := self._room()) > 0:
            at = self.written_bytes % len(self._pattern)
            wrote = self._writer.write(self._pattern[at : at + room], now_us)
            if not wrote:
                break
            self.written_bytes += wrote
            taken += wrote
            if wrote == room:
                break  # nothing is left of it: asking again takes as long as a write
        return taken

    def _room(self) -> int:
        room = self._writer.writable()
        return room if self._left is None else min(room, self._left - self.written_bytes)

    def due_us(self) -> int | None:
        return None


class Paced(Bulk):
    """Produces `rate_bits_per_s` from `start_us` on, in blocks of `block_bytes`.

    A block that finds no room in the endpoint is written later.
    """

    def __init__(
        self, writer: Writer, rate_bits_per_s: float, block_bytes: int = 1_376, start_us: int = 0
    ) -> None:
        super().__init__(writer)
        self._interval_us = block_bytes * 8e6 / rate_bits_per_s
        self._block_bytes, self._start_us, self._now_us = block_bytes, start_us, start_us

    def feed(self, now_us: int) -> int:
        self._now_us = now_us
        return super().feed(now_us)

    def _room(self) -> int:
        return min(self._writer.writable(), self._blocks() * self._block_bytes - self.written_bytes)

    def _blocks(self) -> int:
        return (
            0
            if self._now_us < self._start_us
            else int((self._now_us - self._start_us) / self._interval_us) + 1
        )

    def due_us(self) -> int | None:
        return int(self._start_us + self._blocks() * self._interval_us) + 1
