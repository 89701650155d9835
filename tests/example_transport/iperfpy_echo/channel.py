"""One end of an echo stream.

sender -> receiver   payload, written a chunk at a time
receiver -> sender   u64 big endian after each read: payload bytes received so far
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress
from typing import Self

from iperfpy.protocols.contract import Channel, Load, SocketAddress
from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.metrics import Value

_COUNT = struct.Struct(">Q")


class EchoChannel(Channel):
    def __init__(
        self, sock: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chunk: int
    ) -> None:
        self._fd = sock.fileno()
        self._local: SocketAddress = sock.getsockname()
        self._remote: SocketAddress = sock.getpeername()
        self._reader = reader
        self._writer = writer
        self._chunk = chunk
        self._closed = asyncio.Event()
        self._echoed = asyncio.Event()  # an echo arrived, or the peer closed the stream
        self._reading_echoes: asyncio.Task[None] | None = None  # at the sender only
        self._written = self._received = self._confirmed = 0
        self._chunks = self._echoes = self._reads = 0

    @classmethod
    async def over(cls, sock: socket.socket, chunk: int, *, sends: bool) -> Self:
        """Take over a connected socket; the task of a sender that reads echoes starts here."""
        reader, writer = await asyncio.open_connection(sock=sock)
        channel = cls(sock, reader, writer, chunk)
        if sends:
            channel._reading_echoes = asyncio.get_running_loop().create_task(channel._read_echoes())
        return channel

    def fileno(self) -> int:
        return self._fd

    @property
    def local_address(self) -> SocketAddress:
        return self._local

    @property
    def remote_address(self) -> SocketAddress:
        return self._remote

    def counters(self) -> dict[str, Value]:
        if self._reading_echoes is None:
            return {"bytes": self._received, "reads": self._reads}
        return {
            "bytes": self._confirmed,
            "chunks": self._chunks,
            "echoes": self._echoes,
            "unechoed_bytes": self._written - self._confirmed,
        }

    async def send(self, load: Load) -> None:
        while not self._closed.is_set():
            wait_us = load.wait_us(time.monotonic_ns() // 1000)
            if wait_us < 0:
                return
            if wait_us:
                # A plain sleep would delay `close` until the load's pause is over.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), wait_us / 1e6)
                continue
            await self._write(load.take())

    async def _write(self, block: memoryview) -> None:
        for start in range(0, len(block), self._chunk):
            chunk = block[start : start + self._chunk]
            self._writer.write(chunk)
            self._written += len(chunk)
            self._chunks += 1
            try:
                await self._writer.drain()
            except ConnectionError as error:
                # After `close` the connection is aborted, and this is the expected end.
                if not self._closed.is_set():
                    raise StreamPeerError("the peer closed the echo stream") from error
            if self._closed.is_set():
                return

    async def _read_echoes(self) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                (self._confirmed,) = _COUNT.unpack(await self._reader.readexactly(_COUNT.size))
                self._echoes += 1
                self._echoed.set()
        self._echoed.set()

    async def receive(self) -> None:
        with suppress(ConnectionError):
            while data := await self._reader.read(self._chunk):
                self._received += len(data)
                self._reads += 1
                self._writer.write(_COUNT.pack(self._received))
                await self._writer.drain()

    async def drain(self) -> None:
        while self._confirmed < self._written and not self._closed.is_set():
            if self._reading_echoes is not None and self._reading_echoes.done():
                raise StreamPeerError("the peer closed the echo stream before it had echoed everything")
            self._echoed.clear()
            await self._echoed.wait()

    async def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        if self._reading_echoes is not None:
            await self._reading_echoes
