"""The size of a stream's datagrams on its socket: the range to search, hints of the kernel, sentences."""

from __future__ import annotations

from iperfpy.protocols.addresses import MAPPED
from iperfpy.protocols.contract import Load
from iperfpy.protocols.datagrams.peer_path import DatagramPath
from iperfpy.protocols.errors import StreamPathError
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.settings import SharedSettings
from iperfpy.protocols.kcp.size_range import SizeRange


def size_range(path: DatagramPath, settings: SharedSettings, packet_bytes: int | None) -> SizeRange:
    """The sizes to search: the user's one (--kcp-mtu), else up to the smaller of this machine's interface and
    the control connection's packets, `packet_bytes`, which fit the peer's interface as well. `path` is
    probing."""
    host = str(path.remote_address[0])
    ipv6 = ":" in host and not host.startswith(MAPPED)
    if settings.mtu is not None:
        return SizeRange.of_user(settings.mtu, ipv6=ipv6, envelope_bytes=settings.envelope_bytes)
    sizes = path.sizes
    longest = sizes.longest()
    kernel = None if longest is None else longest + SizeRange.headers(ipv6=ipv6)
    known = [packet for packet in (kernel, packet_bytes) if packet is not None]
    return SizeRange.of(
        min(known, default=None),
        ipv6=ipv6,
        envelope_bytes=settings.envelope_bytes,
        whole=sizes.probing,
        one_per_call=sizes.one_per_call,
    )


class PathSize:
    """Connects an engine's search with the socket, at the end that sends.

    Attributes
    ----------
    waiting : the load that is sent once the size of the first data is known
    to_search : True if the next `check` begins the search
    """

    __slots__ = ("_engine", "_path", "_reports", "_shrinks", "to_search", "waiting")

    def __init__(self, engine: Engine, path: DatagramPath) -> None:
        self._engine, self._path = engine, path
        self._reports = self._shrinks = 0
        self.waiting: Load | None = None
        self.to_search = False

    def released(self) -> Load | None:
        """The waiting load if it may begin now: it waits no longer."""
        if self.waiting is None or not self.is_known:
            return None
        load, self.waiting = self.waiting, None
        return load

    @property
    def is_known(self) -> bool:
        """True once the first data may leave."""
        return self._engine.sizes is None or self._engine.sizes.opened

    def check(self, now_us: int) -> None:
        """Begin the search if it is time, and pass the kernel's reports on. Raises `StreamPathError` if the
        size of the user does not pass."""
        if self.to_search:
            self.to_search = False
            self._engine.search_size(now_us)
        sizes, path = self._engine.sizes, self._path
        if sizes is None:
            return
        reports = path.events.too_long
        if reports != self._reports:
            self._reports = reports
            longest = path.sizes.longest()
            # A system that does not tell its limit has told that there is one: the usual size is tried.
            size = sizes.range.first if longest is None else longest - sizes.range.envelope_bytes
            sizes.hint(size, now_us)
        if sizes.range.fixed and sizes.hole is not None:
            size, passes = (each + sizes.range.envelope_bytes for each in sizes.hole)
            raise StreamPathError(
                f"no datagram of {size:,} bytes comes through, {passes:,} do: try --kcp-mtu {passes}"
            )
        if len(sizes.changes) != self._shrinks:
            self._shrinks = len(sizes.changes)
            if sizes.changes[-1].lost and not self._engine.peer_takes_parts:
                # Segments that are cut for the larger size can only travel in fragments then.
                path.sizes.allow_fragments()
