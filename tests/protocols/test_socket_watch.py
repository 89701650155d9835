"""A socket is heard under both event loops after it reported an error."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.socket_watch import SLICE_NS, SocketWatch
from tests.iperfpy.support import until

pytestmark = pytest.mark.live

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Run a coroutine on one of the event loops."""

    def run_on_loop(main: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main)

    return run_on_loop


@contextmanager
def udp(port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
        yield sock


class Reader:
    """Reads a socket whenever it is called, and keeps the data and the names of errors."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[bytes | str] = []
        self.watch = SocketWatch(sock.fileno())
        self._sock = sock

    def __call__(self) -> None:
        try:
            data = self._sock.recv(100)
        except BlockingIOError:
            return
        except OSError as error:
            self.heard.append(type(error).__name__)
        else:
            self.heard.append(data)
        if self.heard[-1] in (b"", "ConnectionResetError"):  # a connection that is over stays readable
            self.watch.pause()


def test_a_reader_hears_datagrams_after_an_icmp_error(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        with udp() as sock:
            reader = Reader(sock)
            reader.watch.read(reader)
            with udp() as peer:
                address = peer.getsockname()
                sock.connect(address)
            sock.send(b"to a closed port")
            await until(lambda: reader.heard == ["ConnectionRefusedError"])
            with udp(address[1]) as peer:
                for data in (b"0", b"1", b"2"):
                    peer.sendto(data, sock.getsockname())
                await until(lambda: reader.heard[1:] == [b"0", b"1", b"2"])
            reader.watch.close()

    run(main())


def test_a_reader_hears_a_reset_that_arrived_together_with_data(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            sock, _ = listener.accept()
            with sock:
                sock.setblocking(False)
                reader = Reader(sock)
                reader.watch.read(reader)
                peer.send(b"data")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                peer.close()
                await until(lambda: reader.heard == [b"data", "ConnectionResetError"])
                reader.watch.close()

    run(main())


def test_a_writer_is_called_once_per_request_although_an_error_waits(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        with udp() as sock:
            watch, calls = SocketWatch(sock.fileno()), 0

            def again() -> None:
                nonlocal calls
                calls += 1
                if calls < 3:
                    watch.write_once(again)

            with udp() as peer:
                sock.connect(peer.getsockname())
            sock.send(b"to a closed port")
            watch.write_once(again)
            await until(lambda: calls == 3)
            for _ in range(5):
                await asyncio.sleep(0)
            assert calls == 3
            watch.close()

    run(main())


def test_a_paused_reader_is_not_called_until_it_reads_again(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        with udp() as sock, udp() as peer:
            reader = Reader(sock)
            reader.watch.read(reader)
            reader.watch.pause()
            peer.sendto(b"early", sock.getsockname())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not reader.heard
            reader.watch.read(reader)
            await until(lambda: reader.heard == [b"early"])
            reader.watch.close()
            reader.watch.close()

    run(main())


def test_readers_of_many_sockets_take_turns_and_leave_the_loop_its_own(run: Callable[[Any], None]) -> None:
    """A slow reader with a readable socket holds up neither the others nor the loop's callbacks."""

    async def main() -> None:
        loop, calls, order = asyncio.get_running_loop(), [0] * 8, []
        with ExitStack() as stack:
            watches = []
            for index in range(len(calls)):
                sock, peer = stack.enter_context(udp()), stack.enter_context(udp())
                peer.sendto(b"never read", sock.getsockname())
                watches.append(SocketWatch(sock.fileno()))

                def read(index: int = index) -> None:
                    time.sleep(SLICE_NS / 1e9)
                    calls[index] += 1
                    order.append(index)

                watches[-1].read(read)
            turns = 0
            while sum(calls) < 80:
                await asyncio.sleep(0)
                turns += 1
            for watch in watches:
                watch.close()
        assert max(calls) - min(calls) <= 1
        if isinstance(loop, uvloop.Loop):
            assert turns >= 60  # a slice each, and not all of them in one turn

    run(main())


def test_an_exception_of_a_reader_does_not_stop_the_others(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        found: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: found.append(context["exception"])
        )
        with udp() as sock, udp() as other, udp() as peer:
            watch, reader = SocketWatch(sock.fileno()), Reader(other)

            def fail() -> None:
                watch.close()
                raise ValueError("a fault of the reader")

            watch.read(fail)
            reader.watch.read(reader)
            for each in (sock, other):
                peer.sendto(b"0", each.getsockname())
            await until(lambda: reader.heard == [b"0"] and len(found) == 1)
            reader.watch.close()

    run(main())


def epoll_descriptors() -> int:
    """Count the open epoll descriptors of this process."""
    gc.collect()
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found += "eventpoll" in str(link.readlink())
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are listed on Linux only")
def test_a_closed_watch_leaves_no_descriptor_behind(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        before = epoll_descriptors()
        with udp() as sock:
            watches = [SocketWatch(sock.fileno()) for _ in range(5)]  # kept, so that nothing else closes them
            for watch in watches:
                watch.read(lambda: None)
                watch.write_once(lambda: None)
                watch.close()
            assert epoll_descriptors() <= before

    run(main())


def refuse(*_: object) -> None:
    """Do as the default event loop of Windows does."""
    raise NotImplementedError  # the answer that the product has to catch


def test_a_loop_that_cannot_watch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(sock: socket.socket) -> None:
        for name in ("add_reader", "add_writer"):
            monkeypatch.setattr(asyncio.get_running_loop(), name, refuse)
        watch = SocketWatch(sock.fileno())
        for ask in (watch.read, watch.write_once):
            with pytest.raises(TransportError, match=r"asyncio\.SelectorEventLoop"):
                ask(lambda: None)
        watch.close()

    blind = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, blind as runner:
        runner.run(main(sock))
