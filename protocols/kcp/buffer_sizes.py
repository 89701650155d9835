"""Socket buffers of a KCP stream, and the warning if the system grants less than the window needs."""

from __future__ import annotations

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.wire import HEADER_BYTES
from iperfpy.protocols.operating_system import RECEIVE_BUFFER_LIMIT, SEND_BUFFER_LIMIT
from iperfpy.protocols.units import exact_size

_SMALLEST_BUFFER, _LARGEST_BUFFER = 4 << 20, 64 << 20


class BufferSizes:
    """The socket buffers that a stream asks for and needs.

    A whole window may be in flight in this end's direction. The request is for the larger window, in
    datagrams of the largest size that the search may find, and as much again for the kernel's bookkeeping.

    Parameters
    ----------
    given : bytes that the user gave (-w), or None
    sends : True if this end sends payload

    Attributes
    ----------
    asked : bytes to ask for, in both directions
    granted : bytes that the kernel gave for this end's direction; None: not asked yet
    """

    __slots__ = ("_engine", "_given", "_sends", "_warned", "asked", "granted")

    def __init__(self, engine: Engine, given: int | None, *, sends: bool) -> None:
        self._engine, self._given, self._sends = engine, given, sends
        self._warned: tuple[str, ...] = ()
        self.granted: int | None = None
        options = engine.options
        size = options.mtu if options.sizes is None else options.sizes.largest
        window_bytes = 2 * max(options.send_window, options.receive_window) * size
        self.asked = given or min(max(window_bytes, _SMALLEST_BUFFER), _LARGEST_BUFFER)

    @property
    def needed(self) -> int:
        """Bytes for a window of datagrams of the size in use: a size that was not found yet needs nothing."""
        if self._given is not None:
            return self._given
        engine, options = self._engine, self._engine.options
        if self._sends:
            return min(options.send_window * max(options.mtu, engine.sending.mtu), _LARGEST_BUFFER)
        mean = engine.receiving.bytes // max(1, engine.receiving.segments) + HEADER_BYTES
        return min(options.receive_window * max(options.mtu, mean), _LARGEST_BUFFER)

    def warning(self) -> tuple[str, ...]:
        """A sentence if the kernel granted less than is needed. It stays as it is when the size changes."""
        if self._warned or self.granted is None or self.granted >= (needed := self.needed):
            return self._warned
        name, limit = ("send", SEND_BUFFER_LIMIT) if self._sends else ("receive", RECEIVE_BUFFER_LIMIT)
        remedy = f": sysctl -w {limit}={needed}" if limit else ""
        self._warned = (
            f"the system limits the socket's {name} buffer to {exact_size(self.granted)}, "
            f"the window needs {exact_size(needed)}{remedy}",
        )
        return self._warned
