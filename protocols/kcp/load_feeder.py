"""The writer of a stream: takes blocks of a load, writes them into the engine, a bounded amount at once."""

from __future__ import annotations

from iperfpy.protocols.contract import Load
from iperfpy.protocols.kcp.engine import Engine


class LoadFeeder:
    """Writes the blocks of a load into an engine.

    Attributes
    ----------
    due_us : time at which the load has its next block, None if it has one now or there is no load
    """

    __slots__ = ("_engine", "_load", "_rest", "_segments_at_once", "due_us")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._load: Load | None = None
        self._rest: memoryview | None = None  # of a block that did not fit
        self.due_us: int | None = None
        # If data leaves at ticks only, a tick must find a whole window.
        options = engine.options
        self._segments_at_once = options.send_window if options.write_delay else 0

    def begin(self, load: Load) -> None:
        """Write blocks of `load` from now on. The last segment is corked until the load ends."""
        self._load = load
        self._engine.cork()

    def drop(self) -> bytes:
        """Forget the load, and return the part of a block that waits to be written."""
        rest = b"" if self._rest is None else bytes(self._rest)
        self._load = self._rest = self.due_us = None
        return rest

    @property
    def ended(self) -> bool:
        """True if there is no load, or it has no more blocks."""
        return self._load is None

    @property
    def has_block(self) -> bool:
        """True if the load has data now, as far as is known."""
        return self._load is not None and self.due_us is None

    @property
    def has_rest(self) -> bool:
        """True if a part of a block waits to be written."""
        return self._rest is not None

    def feed(self, now_us: int, most_bytes: int) -> bool:
        """Write as much as the engine takes, about `most_bytes` at most; returns True if that stopped it."""
        load, engine = self._load, self._engine
        left = max(most_bytes, self._segments_at_once * engine.sending.mtu)
        self.due_us = None
        while load is not None and (room := engine.writable()) > 0:
            if left <= 0:
                return True
            if self._rest is None:
                wait_us = load.wait_us(now_us)
                if wait_us < 0:
                    # The load has ended: its last segment need not wait to be filled.
                    self._load = None
                    engine.uncork()
                    return False
                if wait_us > 0:
                    self.due_us = now_us + wait_us
                    return False
                self._rest = load.take()
            taken = engine.write(self._rest[:room], now_us)
            left -= taken
            self._rest = self._rest[taken:] if taken < len(self._rest) else None
        return False
