"""A transfer between our engine and kcp-go or kcptun, in an envelope, with hashes at both ends.

our engine <-> socket <-> (relay of `iperfpy lab`, if the case has a path) <-> program of the peer
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_options import EngineOptions
from iperfpy.protocols.kcp.envelope.fec import AdaptiveFec, Fec
from iperfpy.protocols.kcp.envelope.fec_control import Flow
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.envelope.layer_factory import layers_of
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from iperfpy.protocols.kcp.loss_recovery.rack import Rack
from iperfpy.protocols.kcp.receive_window import Deliver
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.kcp.snappy_stream import Compression
from tests.interop.free_port import free_port
from tests.interop.kcptun_link import FIN, LARGEST_FRAME, PSH, SYN, Frames, Loop, frame
from tests.interop.programs import OURS
from tests.open_ports import open_ports
from tests.protocols.kcp.ends import Fixed, stock_recovery
from tests.studies.speed.programs import built_kcpgo

SECRET = "it's a secrect"
WINDOW, MTU = 512, 1_400
WAIT_S = 60.0


SETS = Geometry(8, 4)
Found = tuple[str, str, int | None]
"""(hash of the sender, hash of the receiver, datagrams that the peer recovered, if it tells)."""


class ChangingFec(AdaptiveFec):
    """Forward error correction for a stock peer, whose parity changes every 500 datagrams: loopback itself
    gives no reason to change it."""

    def is_due(self, now_us: int) -> bool:
        return True

    def steer(self, flow: Flow, now_us: int) -> None:
        parity = (4, 2, 0, 1, 3)[self.counts.data_sent // 500 % 5]
        self._encoder.wanted = Geometry(SETS.data, parity)


@dataclass(frozen=True, slots=True)
class Case:
    """One transfer. With `fec` "auto", our parity changes all the time.

    Attributes
    ----------
    peer : kcp-go or kcptun
    sends : True if our engine sends
    loss : share of the datagrams of both directions that our end loses
    peer_fec : the sets of the peer, if they are not ours
    oob_ms : time between out-of-band datagrams of kcp-go; 0: it sends none
    path : of the lab, between the ends; empty: loopback alone
    compressed : kcptun compresses, and so does our end
    """

    peer: str
    sends: bool
    crypt: str = "null"
    fec: str = "off"
    loss: float = 0.0
    total: int = 2_000_000
    recovery: str = "rack"
    peer_fec: str = ""
    oob_ms: int = 0
    path: str = ""
    compressed: bool = False

    @property
    def settings(self) -> KcpSettings:
        fec = f"auto:{SETS.data}:{SETS.parity}" if self.fec == "auto" else self.fec
        return KcpSettings(crypt=self.crypt, fec=fec, mtu=MTU)

    def layers(self) -> list[Layer]:
        if self.fec == "auto":
            return [ChangingFec(SETS)]
        return layers_of(self.settings, SECRET.encode(), os.urandom)

    def engine(self, conv: int, deliver: Deliver) -> Engine:
        mtu = MTU - self.settings.envelope_bytes
        options = EngineOptions(mtu=mtu, send_window=WINDOW, receive_window=WINDOW, nagle=False)
        if self.recovery == "stock":
            return Engine(conv, options, stock_recovery(), None, deliver)
        return Engine(conv, options, Rack, Fixed(256, rate=40_000.0, burst=16), deliver)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The hashes of both ends, and figures.

    Attributes
    ----------
    recovered, rejected, out_of_band : datagrams, here
    theirs : datagrams recovered there; None if the peer does not tell
    late_ms : 99th percentile of the time by which the lab was late; None without a lab
    lab_lost : datagrams of both directions that the lab lost
    """

    sent: str
    received: str
    seconds: float
    recovered: int = 0
    rejected: int = 0
    theirs: int | None = None
    out_of_band: int = 0
    late_ms: float | None = None
    lab_lost: int = 0

    @property
    def exact(self) -> bool:
        return self.sent == self.received


def run(case: Case) -> Outcome:
    """Run a transfer of `case.total` bytes. Fails when it does not end."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        began = time.monotonic()
        layers, lab = case.layers(), Lab(case.path)
        if case.peer == "kcp-go":
            exchange = _kcpgo_takes if case.sends else _kcpgo_gives
        else:
            exchange = _kcptun_takes if case.sends else _kcptun_gives
        sent, received, theirs = exchange(case, sock, layers, lab)
        figures: dict[str, Any] = {key: value for layer in layers for key, value in layer.figures().items()}
        return Outcome(
            sent,
            received,
            time.monotonic() - began,
            recovered=figures.get("fec_recovered", 0),
            rejected=figures.get("crypt_rejected", 0),
            theirs=theirs,
            out_of_band=sum(layer.counts.out_of_band for layer in layers if isinstance(layer, Fec)),
            late_ms=lab.late_ms,
            lab_lost=lab.lost,
        )


@dataclass(slots=True)
class Lab:
    """The path of a case. `late_ms`, `lost`: as in `Outcome`, after the transfer."""

    path: str
    late_ms: float | None = None
    lost: int = 0

    @contextlib.contextmanager
    def leads_to(self, port: int) -> Iterator[int]:
        """A port of loopback from which datagrams come to `port` over the path; without a path it is `port`
        itself."""
        if not self.path:
            yield port
            return
        words = ("lab", self.path, "--json", "--relay", f"127.0.0.1:{port}", "--listen", "0")
        with subprocess.Popen([*OURS, *words], stderr=subprocess.PIPE, text=True) as relay:
            assert relay.stderr is not None
            try:
                line = relay.stderr.readline()
                yield int(line.rsplit(maxsplit=1)[1])
                relay.send_signal(signal.SIGINT)
                counts = json.loads(relay.communicate(timeout=10)[1].splitlines()[-1])
            finally:
                relay.kill()
        self.late_ms = counts["late_us"]["p99"] / 1000
        self.lost = counts["near_to_far"]["lost"] + counts["far_to_near"]["lost"]


# ---------------------------------------------------------------------- kcp-go


def _kcpgo(case: Case, *arguments: str) -> subprocess.Popen[str]:
    data, _, parity = (case.peer_fec or case.settings.fec or "0:0").removeprefix("auto:").partition(":")
    return subprocess.Popen(
        [
            *(built_kcpgo(), *arguments, "-bytes", str(case.total), "-mtu", str(MTU), "-window", str(WINDOW)),
            *("-ds", data, "-ps", parity, "-crypt", case.crypt, "-key", SECRET),
            *(("-oob", f"{case.oob_ms}ms") if case.oob_ms else ()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def _reported(process: subprocess.Popen[str]) -> Iterator[list[dict[str, Any]]]:
    """The report of a kcp-go program, once it has printed it; the program ends afterwards."""
    assert process.stdout is not None
    assert process.stdin is not None
    output, reports = process.stdout, list[dict[str, Any]]()
    thread = threading.Thread(target=lambda: reports.extend(json.loads(line) for line in output), daemon=True)
    thread.start()
    try:
        yield reports
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            thread.join(5)
            output.close()


def _kcpgo_takes(case: Case, sock: socket.socket, layers: list[Layer], lab: Lab) -> Found:
    data, port = random.Random(1).randbytes(case.total), free_port()
    address = ("-serve", "-address", f"127.0.0.1:{port}")
    with _reported(_kcpgo(case, *address)) as reports, lab.leads_to(port) as entry:
        engine = case.engine(0x1234_5678, lambda payload: None)
        loop = Loop(sock, engine, layers, loss=case.loss)
        time.sleep(0.3)  # It cannot tell when it listens; what comes too early is sent again.
        loop.connect(entry)
        loop.write(data)
        loop.run(lambda: loop.acknowledged and bool(reports), WAIT_S)
        report = reports[0]
    return hashlib.sha256(data).hexdigest(), report["sha256"], report.get("fec_recovered", 0)


def _kcpgo_gives(case: Case, sock: socket.socket, layers: list[Layer], lab: Lab) -> Found:
    got = hashlib.sha256()
    arrived = [0]

    def deliver(payload: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        block = np.ascontiguousarray(payload).tobytes()
        got.update(block)
        arrived[0] += len(block)

    loop = Loop(sock, None, layers, lambda conv: case.engine(conv, deliver), case.loss)
    with (
        lab.leads_to(sock.getsockname()[1]) as entry,
        _reported(_kcpgo(case, "-address", f"127.0.0.1:{entry}")) as reports,
    ):
        loop.run(lambda: arrived[0] >= case.total and bool(reports), WAIT_S)
        report = reports[0]
    return report["sha256"], got.hexdigest(), None


# ---------------------------------------------------------------------- kcptun


PROTOCOLS = {"--listen": "udp", "--localaddr": "tcp"}
"""First flag of a kcptun program -> the protocol of the port at which it waits."""


@contextlib.contextmanager
def kcptun(case: Case, name: str, *addresses: str) -> Iterator[None]:
    """Run a kcptun program, once it listens."""
    data, _, parity = (case.settings.fec or "0:0").partition(":")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        command = [
            *(name, "--crypt", case.crypt, "--key", SECRET, "--mode", "fast3"),
            *(() if case.compressed else ("--nocomp",)),
            *("--datashard", data, "--parityshard", parity, "--mtu", str(MTU), "--log", str(log)),
            *("--sndwnd", str(WINDOW), "--rcvwnd", str(WINDOW), *addresses),
        ]
        process = subprocess.Popen(command)
        try:
            ends = time.monotonic() + 10
            # Its log has these words before its socket is open.
            protocol, port = PROTOCOLS[addresses[0]], int(addresses[1].rpartition(":")[2])
            while not (log.exists() and "smux version" in log.read_text() and port in open_ports(protocol)):
                assert time.monotonic() < ends, f"{name} did not start"
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait(5)


def frames_of(data: bytes, stream: int) -> bytes:
    """Wrap data as the payload of a smux stream."""
    return b"".join(_frames_of(data, stream))


def _frames_of(data: bytes, stream: int) -> Iterator[bytes]:
    for at in range(0, len(data), LARGEST_FRAME):
        yield frame(PSH, stream, data[at : at + LARGEST_FRAME])


def _payload(case: Case, seed: int) -> bytes:
    """Bytes that no compression makes shorter; of a compressed case, every second 10 kB of them are zeros."""
    data = bytearray(random.Random(seed).randbytes(case.total))
    if case.compressed:
        for at in range(0, case.total, 20_000):
            data[at : at + 10_000] = bytes(len(data[at : at + 10_000]))
    return bytes(data)


def _compressed(case: Case, frames: Iterable[bytes]) -> bytes:
    """The bytes of the KCP stream."""
    return b"".join(map(Compression().seal, frames) if case.compressed else frames)


def _uncompressing(case: Case, frames: Frames) -> Deliver:
    """Takes the bytes of the KCP stream."""
    if not case.compressed:
        return frames.feed
    reader = Compression()

    def deliver(payload: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        for plain in reader.open(np.ascontiguousarray(payload).reshape(-1).data):
            frames.feed(np.frombuffer(plain, np.uint8))

    return deliver


class Sink(threading.Thread):
    """TCP server that takes one connection and hashes what comes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WAIT_S)
        self.port: int = self.listener.getsockname()[1]
        self.digest = hashlib.sha256()

    def run(self) -> None:
        with self.listener, self.listener.accept()[0] as connection:
            connection.settimeout(WAIT_S)
            while data := connection.recv(1 << 16):
                self.digest.update(data)


def _kcptun_takes(case: Case, sock: socket.socket, layers: list[Layer], lab: Lab) -> Found:
    sink, port, data = Sink(), free_port(), _payload(case, 1)
    sink.start()
    addresses = ("--listen", f"127.0.0.1:{port}", "--target", f"127.0.0.1:{sink.port}")
    with kcptun(case, "kcptun-server", *addresses), lab.leads_to(port) as entry:
        deliver = _uncompressing(case, Frames())
        loop = Loop(sock, case.engine(0x1234_5678, deliver), layers, loss=case.loss)
        loop.connect(entry)
        loop.write(_compressed(case, [frame(SYN, 3), *_frames_of(data, 3), frame(FIN, 3)]))
        loop.run(lambda: loop.acknowledged and not sink.is_alive(), WAIT_S)
    return hashlib.sha256(data).hexdigest(), sink.digest.hexdigest(), None


def _kcptun_gives(case: Case, sock: socket.socket, layers: list[Layer], lab: Lab) -> Found:
    local, data, frames = free_port(), _payload(case, 2), Frames()
    deliver = _uncompressing(case, frames)
    with (
        lab.leads_to(sock.getsockname()[1]) as entry,
        kcptun(
            case,
            "kcptun-client",
            *("--localaddr", f"127.0.0.1:{local}", "--remoteaddr", f"127.0.0.1:{entry}", "--conn", "1"),
        ),
    ):
        loop = Loop(sock, None, layers, lambda conv: case.engine(conv, deliver), case.loss)
        with socket.create_connection(("127.0.0.1", local), timeout=WAIT_S) as connection:
            thread = threading.Thread(target=connection.sendall, args=(data,), daemon=True)
            thread.start()
            loop.run(lambda: frames.bytes >= case.total, WAIT_S)
            thread.join(5)
    return hashlib.sha256(data).hexdigest(), frames.digest, None
