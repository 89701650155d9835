"""KCP on a socket: the engine, a datagram path, one timer, and the event loop.

A stream is associated by a window probe (WASK) that carries its conv, repeated until it is answered (WINS):
stock KCP on the wire, and no larger than what provokes it. Its end is the control channel's business.
"""

from __future__ import annotations

import asyncio
import sys
import time

from iperfpy.protocols.contract import Channel, ClientPort, Load, ServerPort, SocketAddress, Stream
from iperfpy.protocols.datagrams.arrival_time import ArrivalClock
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.peer_path import ConnectedPath, DatagramPath
from iperfpy.protocols.datagrams.server_port import shared_udp
from iperfpy.protocols.errors import PathError, TransportError
from iperfpy.protocols.kcp import kcp_metrics, profiles
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.sender_limits import SenderLimit
from iperfpy.protocols.kcp.settings import MAX_WINDOW, KcpBbrSettings, KcpSettings
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.settings import Settings

ASSOCIATE_FIRST_S, ASSOCIATE_LONGEST_S = 0.1, 1.0
DEAD_AFTER_US = 30_000_000
"""Data in flight and not one acknowledgement for so long: the path died."""
BYTES_PER_WAKE = 4 << 20
"""What is written and sent before others get the loop: the other streams, the acknowledgements of this one,
and the timers. Without a bound one turn of the loop took 250 ms with 16 streams of kcp-bbr; a bound of 1 MiB
took a fifth of the rate, from one stream and from 16. Going on within the turn, not in the next, cost 16
streams of kcp-bbr a quarter more processor time."""
LONGEST_BATCH = 1 << 16
"""Datagrams: all that leaves at once is one batch, or two where the ring begins anew; the socket cuts it."""
WORTH_SAYING = 0.01
"""Share of the time for which something must hold a sender to be warned of."""
_SMALLEST_BUFFER, _LARGEST_BUFFER = 4 << 20, 64 << 20


async def connect(stream: Stream, settings: Settings, port: ClientPort) -> Channel:
    """The client's end, associated. Waits without limit: the caller sets the deadline."""
    path = ConnectedPath.open(port.remote, port.local(stream), prepare=port.prepare)
    channel = KcpChannel(_engine(stream, settings), path, settings, sends=stream.sends)
    try:
        await channel.associate()
    except BaseException:
        await channel.close()
        raise
    return channel


async def accept(stream: Stream, settings: Settings, port: ServerPort) -> Channel:
    """The server's end, once the client's first datagram has come."""
    path = await shared_udp(port).accept(stream.conv)
    return KcpChannel(_engine(stream, settings), path, settings, sends=stream.sends)


def _engine(stream: Stream, settings: Settings) -> Engine:
    if isinstance(settings, KcpBbrSettings):
        return profiles.with_bbr(stream.conv, settings, longest_batch=LONGEST_BATCH)
    assert isinstance(settings, KcpSettings)
    return profiles.stock(stream.conv, settings, longest_batch=LONGEST_BATCH)


def _now_us() -> int:
    return time.monotonic_ns() // 1000


class KcpChannel(Channel):
    """One KCP stream at one end. Everything runs on the event loop's thread."""

    def __init__(self, engine: Engine, path: DatagramPath, settings: Settings, *, sends: bool) -> None:
        self.engine = engine
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._load: Load | None = None
        self._rest: memoryview | None = None
        self._load_due_us: int | None = None
        # A tick takes a whole window.
        window_bytes = engine.options.send_window * engine.options.mtu
        self._wake_bytes = window_bytes if engine.options.write_delay else BYTES_PER_WAKE
        self._unsent: list[DatagramBatch] = []
        self._full = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us = 0
        self._again: asyncio.Handle | None = None
        self._sent: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._heard: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        self._progress = (0, _now_us())
        self._sends = sends
        self._buffer_needed, asked = _buffer_bytes(engine, settings, sends)
        self._buffer_given = path.size_buffers(asked)[0 if sends else 1]
        self._arrivals = ArrivalClock()
        self._told_us = 0
        if sends:
            path.stamp_arrivals()
        path.set_receiver(self._on_batch, self._on_drained)

    # -- set-up and end

    async def associate(self) -> None:
        """Probe until the server answers."""
        wait_s = ASSOCIATE_FIRST_S
        while not self._heard.done():
            self.engine.probe()
            self._pump()
            await asyncio.wait([self._over, self._heard], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if self._closed:
                raise PathError("the stream was closed before the server answered")
            wait_s = min(wait_s * 1.5, ASSOCIATE_LONGEST_S)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for handle in (self._timer, self._again):
            if handle is not None:
                handle.cancel()
        self._path.close()
        self._finish(self._sent)
        self._finish(self._drained)
        self._finish(self._over)

    def fileno(self) -> int:
        return self._path.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self._path.local_address

    @property
    def remote_address(self) -> SocketAddress:
        return self._path.remote_address

    # -- the two directions

    async def send(self, load: Load) -> None:
        if self._closed:
            return self._over.result()  # raises what ended the stream, if anything did
        self._load = load
        self.engine.cork()
        self._progress = (self.engine.sending.bytes_acked, _now_us())
        self._sent = self._loop.create_future()
        self._pump()
        return await self._sent

    async def receive(self) -> None:
        await asyncio.shield(self._over)

    async def drain(self) -> None:
        if self._is_drained() or self._closed:
            return
        self._drained = self._loop.create_future()
        self._pump()
        await self._drained

    def _is_drained(self) -> bool:
        return self._rest is None and self.engine.sending.una == self.engine.sending.end

    @staticmethod
    def _finish(future: asyncio.Future[None] | None, error: Exception | None = None) -> None:
        if future is not None and not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # seen: not every one of them is waited for

    # -- the event loop

    def _on_batch(self, batch: DatagramBatch) -> None:
        try:
            now_us = self._arrived_us()
            self.engine.receive(batch, now_us)
            if self.first_data_us is None and self._has_data():
                self.first_data_us = now_us
            self._finish(self._heard)
        except Exception as error:  # a fault of ours: it ends this stream, and must not spin the loop
            self._fail(error)

    def _arrived_us(self) -> int:
        """When what is heard now arrived: how late this program looks is no part of a round trip. The time of
        the engine does not go back for that."""
        now_us, stamp = _now_us(), self._path.stamp
        if stamp:
            arrived_us = self._arrivals.arrived_us(stamp, now_us)
            now_us = max(arrived_us, self._told_us, self.engine.delivery.stamp_us)
        self._told_us = now_us
        return now_us

    def _on_drained(self) -> None:
        if self._again is None:  # else the next turn of the loop sends, once for all that was heard
            self._pump()

    def _has_data(self) -> bool:
        receiving = self.engine.receiving
        return receiving.segments > 0 or receiving.stored > 0

    def _pump(self) -> None:
        """Fill the engine from the load and send what it lets go, then let others have the loop, or wait."""
        if self._closed:
            return
        try:
            if self._unsent and not self._emit():
                return
            more = self._fill(_now_us())
            now_us = _now_us()  # filling takes a while, which is no part of a round trip
            self._unsent = self.engine.transmit(now_us, writer_waits=more)
            if self._unsent and self._emit() and self._load is not None and self._load_due_us is None:
                # The engine may take more, now that this has left.
                if self._again is None:
                    self._again = self._loop.call_soon(self._go_on)
                return
        except Exception as error:
            self._fail(error)
            return
        if self._drained is not None and self._is_drained():
            self._finish(self._drained)
        self._arm(now_us)

    def _go_on(self) -> None:
        self._again = None
        self._pump()

    def _emit(self) -> bool:
        """Hand datagrams to the socket. False when it is full: `_pump` goes on when it has room."""
        batches, self._unsent = self._unsent, []
        for at, batch in enumerate(batches):
            taken = self._path.send(batch)
            if taken < batch.count:
                self._unsent = [batch.rest(taken), *batches[at + 1 :]]
                if not self._full:
                    self._full = True
                    self._path.wait_writable(self._has_room)
                return False
        return True

    def _has_room(self) -> None:
        self._full = False
        self._pump()

    def _fill(self, now_us: int) -> bool:
        load, engine, left = self._load, self.engine, self._wake_bytes
        self._load_due_us = None
        while load is not None and (room := engine.writable()) > 0:
            if left <= 0:
                return True
            if self._rest is None:
                wait_us = load.wait_us(now_us)
                if wait_us:
                    if wait_us < 0:
                        self._load = None
                        engine.uncork()
                        self._finish(self._sent)
                    else:
                        self._load_due_us = now_us + wait_us
                    return False
                self._rest = load.take()
            taken = engine.write(self._rest[:room], now_us)
            left -= taken
            self._rest = self._rest[taken:] if taken < len(self._rest) else None
        return False

    def _arm(self, now_us: int) -> None:
        """One timer for the engine's deadline and the load's; a timer that is early enough stays, and is
        looked at again when it fires."""
        deadline_us = self.engine.deadline_us()
        if self._load_due_us is not None:
            deadline_us = self._load_due_us if deadline_us is None else min(deadline_us, self._load_due_us)
        if deadline_us is None:
            return
        if self._timer is not None:
            if self._timer_us <= deadline_us:
                return
            self._timer.cancel()
        # Event loops sleep in whole milliseconds; less would make them spin until the time has come.
        wait_us = max(1000, deadline_us - now_us)
        self._timer_us = now_us + wait_us
        self._timer = self._loop.call_later(wait_us / 1e6, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self._path.check()
            self._check_alive()
        except TransportError as error:
            self._fail(error)
            return
        self._pump()

    def _check_alive(self) -> None:
        acked, since_us = self._progress
        sending = self.engine.sending
        if sending.bytes_acked != acked or sending.una == sending.nxt:
            self._progress = (sending.bytes_acked, _now_us())
        elif _now_us() - since_us > DEAD_AFTER_US:
            raise PathError(f"the path died: no acknowledgement for {DEAD_AFTER_US // 1_000_000} s")

    def _fail(self, error: Exception) -> None:
        """Nothing goes on after this; whoever waits hears why."""
        self._closed = True
        self._path.close()
        for future in (self._sent, self._drained, self._over):
            self._finish(future, error)

    # -- figures

    def warnings(self) -> tuple[str, ...]:
        """The buffer of this end's direction, when the kernel caps it below what the window needs; KCP's
        window, when there is no larger one and it held the sender."""
        return (*self._buffer_warning(), *window_warning(self.engine, _now_us()))

    def _buffer_warning(self) -> tuple[str, ...]:
        if self._buffer_given >= self._buffer_needed:
            return ()
        name, limit = ("send", "net.core.wmem_max") if self._sends else ("receive", "net.core.rmem_max")
        remedy = f": sysctl -w {limit}={self._buffer_needed}" if sys.platform.startswith("linux") else ""
        return (
            f"the system limits the socket's {name} buffer to {self._buffer_given} bytes, "
            f"the window needs {self._buffer_needed}{remedy}",
        )

    def counters(self) -> dict[str, Value]:
        return kcp_metrics.record(self.engine, _now_us())


def window_warning(engine: Engine, now_us: int) -> tuple[str, ...]:
    """A sentence when the widest window that KCP's 16 bits can say held the sender for more than one per cent
    of the time."""
    held = engine.limits.until(now_us)
    share = held[SenderLimit.SEND_WINDOW] / max(1, sum(held.values()))
    if engine.sending.limit < MAX_WINDOW or share <= WORTH_SAYING:
        return ()
    return (
        f"KCP's window of {MAX_WINDOW} segments held the sender for {100 * share:.0f} % of the time: "
        "this path carries more than one stream can have in flight (-P uses several)",
    )


def _buffer_bytes(engine: Engine, settings: Settings, sends: bool) -> tuple[int, int]:
    """(needed, asked for): a window in flight in this end's direction, and the larger window with the
    kernel's bookkeeping about as large again. -w is both."""
    assert isinstance(settings, (KcpSettings, KcpBbrSettings))
    if settings.socket_buffer is not None:
        return settings.socket_buffer, settings.socket_buffer
    options = engine.options
    window = options.send_window if sends else options.receive_window
    asked = 2 * max(options.send_window, options.receive_window) * options.mtu
    return min(window * options.mtu, _LARGEST_BUFFER), min(max(asked, _SMALLEST_BUFFER), _LARGEST_BUFFER)
