"""The relay of `--relay`: UDP datagrams over the path, without namespaces or rights.

client -- UDP --> listening socket --> way there --> a socket per client --> server
                                   <-- way back  <--
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from iperfpy.lab.lateness import Lateness
from iperfpy.lab.relay import TURN_US, unclean
from iperfpy.lab.way import Way
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.simulator.inbox import Inbox, merged

MOST_CLIENTS = 256
"""Client addresses at a time; the one that was silent for the longest time makes room for another."""
BUFFER_BYTES = 8 << 20
_READS = 64
"""Batches that one turn reads from a socket, so that none holds up the others."""


@dataclass(frozen=True, slots=True)
class Client:
    """One client address: the socket that speaks to the server for it, and its inbox at either end.

    there : datagrams on their way to the server; back : to the client
    """

    address: SocketAddress
    server: DatagramSocket
    there: Inbox
    back: Inbox


class DatagramRelay:
    """Carries the datagrams of all clients.

    Parameters
    ----------
    listening : receives from every client
    server : address of the server
    ways : the way there and the way back
    clock : microseconds since the run began

    Attributes
    ----------
    late : lateness of all deliveries
    """

    def __init__(
        self,
        listening: DatagramSocket,
        server: SocketAddress,
        ways: tuple[Way, Way],
        clock: Callable[[], float],
    ) -> None:
        self.late = Lateness()
        self._listening, self._server, self._clock = listening, server, clock
        self._there, self._back = ways
        self._clients: OrderedDict[SocketAddress, Client] = OrderedDict()
        self._refused = 0
        self._turned_us = -TURN_US

    def sockets(self) -> list[DatagramSocket]:
        """All sockets that may become readable."""
        return [self._listening, *(client.server for client in self._clients.values())]

    def turn(self, readable: Collection[DatagramSocket]) -> None:
        """Take all datagrams in, and deliver all that are due.

        A datagram counts from the time at which it was read. An earlier time, such as that of the turn, may
        lie before its arrival, and the path would be shorter than asked for.
        """
        self._turned_us = self._clock()
        if self._listening in readable:
            for _ in range(_READS):
                received = self._listening.receive()
                if received is None:
                    break
                batch, address = received
                self._there.carry_batch(self._clock(), batch, self._client(address).there)
        for client in self._clients.values():
            if client.server in readable:
                self._read_server(client)
        now_us = self._clock()
        self._there.advance(now_us)
        self._back.advance(now_us)
        for client in self._clients.values():
            self._deliver(client.there, client.server, None)
            self._deliver(client.back, self._listening, client.address)

    def _client(self, address: SocketAddress) -> Client:
        client = self._clients.get(address)
        if client is None:
            if len(self._clients) == MOST_CLIENTS:
                self._forget(self._clients.popitem(last=False)[1])
            server = DatagramSocket.connected(self._server)
            server.size_buffers(BUFFER_BYTES)
            client = Client(address, server, self._there.inbox(), self._back.inbox())
            self._clients[address] = client
        self._clients.move_to_end(address)
        return client

    def _forget(self, client: Client) -> None:
        self._there.close(client.there)
        self._back.close(client.back)
        client.server.close()

    def _read_server(self, client: Client) -> None:
        for _ in range(_READS):
            received = client.server.receive()
            if received is None:
                break
            self._back.carry_batch(self._clock(), received[0], client.back)

    def _deliver(self, inbox: Inbox, sock: DatagramSocket, address: SocketAddress | None) -> None:
        now_us = self._clock()
        if inbox.due_us() > now_us:
            return
        pieces = inbox.take_rows(now_us)
        for batch in merged([rows for _, rows in pieces]):
            self._refused += batch.count - self._send(sock, batch, address)
        sent_us = self._clock()
        for exits, _ in pieces:
            self.late.add(sent_us - exits)

    @staticmethod
    def _send(sock: DatagramSocket, batch: DatagramBatch, address: SocketAddress | None) -> int:
        try:
            return sock.send(batch, address)
        except TransportError:  # longer than this machine's interface, or no route
            return 0

    def due_us(self) -> float:
        """The time of the next turn if nothing arrives; infinity if nothing is on its way."""
        return min(self._there.due_us(), self._back.due_us())

    def rest_us(self) -> float:
        """Time until the next turn may be taken at all, microseconds, 0.0 or more."""
        return max(0.0, self._turned_us + TURN_US - self._clock())

    def why_unclean(self) -> str:
        """The reason why this machine did not keep to the path; empty if it did."""
        inodes = {os.fstat(sock.fileno()).st_ino for sock in self.sockets()}
        return unclean(self.late, overflows(inodes), self._refused)

    def close(self) -> None:
        """Close all sockets."""
        for client in self._clients.values():
            client.server.close()
        self._clients.clear()
        self._listening.close()


def overflows(inodes: Collection[int], folder: Path = Path("/proc/self")) -> int:
    """Datagrams for which the receive buffers of some sockets had no room, by the kernel's tables; 0 on a
    system without such tables."""
    found = 0
    for name in ("net/udp", "net/udp6"):
        with contextlib.suppress(OSError):
            for line in (folder / name).read_text().splitlines()[1:]:
                fields = line.split()
                # sl, local, remote, state, queues, timer, retransmits, uid, timeout, inode, ..., drops
                if int(fields[9]) in inodes:
                    found += int(fields[-1])
    return found
