"""Our engine against kcptun, a deployed kcp-go, over loopback, as client and as server. Hashes cover the
bytes."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.interop.conftest import peer
from tests.interop.envelope_exchange import Case, frames_of, kcptun, run
from tests.interop.free_port import free_port
from tests.interop.kcptun_link import FIN, SYN, Frames, Loop, frame

pytestmark = [pytest.mark.interop, pytest.mark.live]

TOTAL = 2_000_000


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        yield sock


class Echo(threading.Thread):
    """TCP server that echoes one connection."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.port: int = self.listener.getsockname()[1]
        self.digest = hashlib.sha256()

    def run(self) -> None:
        with self.listener, self.listener.accept()[0] as connection:
            while data := connection.recv(1 << 16):
                self.digest.update(data)
                connection.sendall(data)


CASES = (
    Case("kcptun", sends=True, crypt="none", recovery="stock"),
    Case("kcptun", sends=True, crypt="aes", fec="10:3", recovery="rack"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.recovery)
def test_the_engine_is_the_client_of_a_kcptun_server(case: Case, udp: socket.socket) -> None:
    """kcp-go acknowledges our data to the last segment, and sends it back: 2 MB each way."""
    peer("kcptun-server")
    echo, port = Echo(), free_port()
    echo.start()
    data = random.Random(1).randbytes(TOTAL)
    frames = Frames()
    one = case.engine(0x1234_5678, frames.feed)
    addresses = ("--listen", f"127.0.0.1:{port}", "--target", f"127.0.0.1:{echo.port}")
    with kcptun(case, "kcptun-server", *addresses):
        loop = Loop(udp, one, case.layers())
        loop.connect(port)
        loop.write(frame(SYN, 3) + frames_of(data, 3))
        loop.run(lambda: frames.bytes >= TOTAL and loop.acknowledged)
        # kcptun closes the TCP connection after FIN, which ends the echo server.
        loop.write(frame(FIN, 3))
        loop.run(lambda: loop.acknowledged)
        echo.join(5)
    expected = hashlib.sha256(data).hexdigest()
    assert echo.digest.hexdigest() == expected
    assert frames.digest == expected
    assert one.rtt.samples > 0
    assert one.recovery.in_flight == 0
    assert one.counts.foreign == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.recovery)
def test_the_engine_is_the_server_of_a_kcptun_client(case: Case, udp: socket.socket) -> None:
    """kcp-go chooses the conv and sends first; we send as many bytes back."""
    peer("kcptun-client")
    local = free_port()
    there, back = random.Random(2).randbytes(TOTAL), random.Random(3).randbytes(TOTAL)
    got = hashlib.sha256()

    def application() -> None:
        with socket.create_connection(("127.0.0.1", local), timeout=10) as connection:
            connection.sendall(there)
            left = TOTAL
            while left and (data := connection.recv(1 << 16)):
                got.update(data)
                left -= len(data)

    frames = Frames()
    addresses = ("--localaddr", f"127.0.0.1:{local}", "--remoteaddr", f"127.0.0.1:{udp.getsockname()[1]}")
    with kcptun(case, "kcptun-client", *addresses, "--conn", "1"):
        loop = Loop(udp, None, case.layers(), lambda conv: case.engine(conv, frames.feed))
        thread = threading.Thread(target=application, daemon=True)
        thread.start()
        loop.run(lambda: frames.bytes >= TOTAL)
        assert frames.digest == hashlib.sha256(there).hexdigest()
        assert len(frames.opened) == 1
        loop.write(frames_of(back, frames.opened[0]))
        loop.run(lambda: loop.acknowledged)
        loop.run(lambda: not thread.is_alive())
    assert got.hexdigest() == hashlib.sha256(back).hexdigest()
    assert loop.engine is not None
    assert loop.engine.rtt.samples > 0
    assert loop.engine.counts.foreign == 0


@pytest.mark.parametrize("sends", [True, False])
def test_kcptun_exchanges_a_compressed_stream(sends: bool) -> None:
    """By its defaults but for lost datagrams; the hashes are those of TCP programs behind the tunnel."""
    peer("kcptun-server")
    case = Case("kcptun", sends, crypt="aes", fec="10:3", loss=0.02, compressed=True)
    assert run(case).exact
