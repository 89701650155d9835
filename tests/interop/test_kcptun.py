"""Our engine against kcptun, a deployed kcp-go, over loopback, as client and as server. Hashes cover the
bytes."""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_options import EngineOptions
from iperfpy.protocols.kcp.loss_recovery.rack import Rack
from iperfpy.protocols.kcp.receive_window import Deliver
from tests.interop.conftest import peer
from tests.interop.free_port import free_port
from tests.interop.kcptun_link import FIN, LARGEST_FRAME, PSH, SYN, Frames, Loop, frame
from tests.interop.programs import wait_until
from tests.protocols.kcp.ends import Fixed, stock_recovery

pytestmark = [pytest.mark.interop, pytest.mark.live]

TOTAL = 2_000_000
WINDOW = 512
OPTIONS = [
    "--crypt", "none", "--nocomp", "--datashard", "0", "--parityshard", "0", "--mode", "fast3",
    "--sndwnd", str(WINDOW), "--rcvwnd", str(WINDOW), "--mtu", "1350",
]  # fmt: skip


def _engine(recovery: str, conv: int, deliver: Deliver) -> Engine:
    options = EngineOptions(mtu=1_330, send_window=WINDOW, receive_window=WINDOW, nagle=False)
    if recovery == "stock":
        return Engine(conv, options, stock_recovery(), None, deliver)
    return Engine(conv, options, Rack, Fixed(256, rate=40_000.0, burst=16), deliver)


def _frames(data: bytes, stream: int) -> bytes:
    """Wrap data as the payload of a smux stream."""
    pieces = (data[at : at + LARGEST_FRAME] for at in range(0, len(data), LARGEST_FRAME))
    return b"".join(frame(PSH, stream, piece) for piece in pieces)


@pytest.fixture
def kcptun(tmp_path: Path) -> Iterator[Callable[[str, list[str]], None]]:
    """Start a kcptun program, and wait until it listens."""
    running = []

    def start(name: str, addresses: list[str]) -> None:
        log = tmp_path / f"{name}.txt"
        running.append(subprocess.Popen([peer(name), *OPTIONS, *addresses, "--log", str(log)]))
        wait_until(lambda: log.exists() and "smux version" in log.read_text(), f"{name} did not start")

    yield start
    for process in running:
        process.terminate()
        process.wait(5)


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


@pytest.mark.parametrize("recovery", ["stock", "rack"])
def test_the_engine_is_the_client_of_a_kcptun_server(
    recovery: str, kcptun: Callable[[str, list[str]], None], udp: socket.socket
) -> None:
    """kcp-go acknowledges our data to the last segment, and sends it back: 2 MB each way."""
    echo, port = Echo(), free_port()
    echo.start()
    kcptun("kcptun-server", ["--listen", f"127.0.0.1:{port}", "--target", f"127.0.0.1:{echo.port}"])
    data = random.Random(1).randbytes(TOTAL)
    frames = Frames()
    one = _engine(recovery, 0x1234_5678, frames.feed)
    loop = Loop(udp, one)
    loop.connect(port)
    loop.write(frame(SYN, 3) + _frames(data, 3))
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


@pytest.mark.parametrize("recovery", ["stock", "rack"])
def test_the_engine_is_the_server_of_a_kcptun_client(
    recovery: str, kcptun: Callable[[str, list[str]], None], udp: socket.socket
) -> None:
    """kcp-go chooses the conv and sends first; we send as many bytes back."""
    local = free_port()
    kcptun(
        "kcptun-client",
        ["--localaddr", f"127.0.0.1:{local}", "--remoteaddr", f"127.0.0.1:{udp.getsockname()[1]}",
         "--conn", "1"],
    )  # fmt: skip
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
    loop = Loop(udp, None, lambda conv: _engine(recovery, conv, frames.feed))
    thread = threading.Thread(target=application, daemon=True)
    thread.start()
    loop.run(lambda: frames.bytes >= TOTAL)
    assert frames.digest == hashlib.sha256(there).hexdigest()
    assert len(frames.opened) == 1
    loop.write(_frames(back, frames.opened[0]))
    loop.run(lambda: loop.acknowledged)
    loop.run(lambda: not thread.is_alive())
    assert got.hexdigest() == hashlib.sha256(back).hexdigest()
    assert loop.engine is not None
    assert loop.engine.rtt.samples > 0
    assert loop.engine.counts.foreign == 0
