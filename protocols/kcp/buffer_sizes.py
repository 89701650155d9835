"""Socket buffer sizes of a KCP stream, and the warning if the system grants less."""

from __future__ import annotations

from typing import NamedTuple

from iperfpy.protocols.kcp.engine_options import EngineOptions
from iperfpy.protocols.operating_system import RECEIVE_BUFFER_LIMIT, SEND_BUFFER_LIMIT

_SMALLEST_BUFFER, _LARGEST_BUFFER = 4 << 20, 64 << 20


class BufferSizes(NamedTuple):
    """Socket buffer sizes in bytes: needed by this end's direction, and to ask for, in both directions."""

    needed: int
    asked: int

    @classmethod
    def of(cls, options: EngineOptions, given: int | None, *, sends: bool) -> BufferSizes:
        """The size that the user gave (-w), or sizes by the windows.

        A whole window may be in flight in this end's direction. The request is for the larger window, and as
        much again for the kernel's bookkeeping.
        """
        if given is not None:
            return cls(given, given)
        window = options.send_window if sends else options.receive_window
        mtu = options.mtu if options.sizes is None else options.sizes.largest
        asked = 2 * max(options.send_window, options.receive_window) * mtu
        needed = min(window * mtu, _LARGEST_BUFFER)
        return cls(needed, min(max(asked, _SMALLEST_BUFFER), _LARGEST_BUFFER))

    def warning(self, granted: int, *, sends: bool) -> tuple[str, ...]:
        """A sentence if the kernel granted less than is needed."""
        if granted >= self.needed:
            return ()
        name, limit = ("send", SEND_BUFFER_LIMIT) if sends else ("receive", RECEIVE_BUFFER_LIMIT)
        remedy = f": sysctl -w {limit}={self.needed}" if limit else ""
        return (
            f"the system limits the socket's {name} buffer to {granted} bytes, "
            f"the window needs {self.needed}{remedy}",
        )
