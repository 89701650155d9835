"""A socket for one sender on a system that cannot share the server's port among sockets of one user alone.

    sender --> shared port --> deliver                         a session that is called back
    sender <-- shared port <-- send
    sender --> shared port --> forward --> outer --> inner     a session that took its socket, and reads it
    sender <-- shared port <-------------- outer <-- inner     what it sends by itself

Windows shares a port with every user or with none (SO_EXCLUSIVEADDRUSE), so that the server's port has one
socket there. `inner` and `outer` are a connected pair on loopback: a session that took its socket over uses
`inner` like a socket of its own, with a thread if it has one, and each of its datagrams passes the kernel
twice. Options of `inner`, such as the type of service, do not reach the network.
"""

from __future__ import annotations

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.path_mtu import PortSizes
from iperfpy.protocols.datagrams.peer_path import BATCHES_PER_WAKE, Pump
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.path_events import Sign

RELAY_BYTES = 4 << 20
"""Socket buffers of `outer`. The usual ones of Windows hold 45 datagrams."""
LOOPBACK: SocketAddress = ("127.0.0.1", 0)


class PortRelay:
    """Carries the datagrams of one session between the server's port and a pair of sockets.

    Parameters
    ----------
    shared : the socket of the server's port
    remote : the sender; to be changed when it moves

    Attributes
    ----------
    inner : for the session, which closes it
    sizes : the port's part in finding the size of datagrams to the sender
    """

    def __init__(self, shared: DatagramSocket, remote: SocketAddress) -> None:
        self.remote = remote
        self._shared = shared
        self.sizes = PortSizes(shared.sizes, remote)
        self.inner = DatagramSocket.bound(LOOPBACK, reuse=False)
        outer = DatagramSocket.bound(LOOPBACK, reuse=False)
        self.inner.connect(outer.local_address)
        outer.connect(self.inner.local_address)
        self._pump = Pump(outer)
        outer.size_buffers(RELAY_BYTES)

    def open(self) -> None:
        """Carry what the session sends from now on."""
        self._pump.read(self._send_waiting)

    def send(self, batch: DatagramBatch) -> int:
        """Send from the port, for a session without a thread; as `DatagramSocket.send`."""
        shared = self._shared
        self.sizes.apply()
        before = shared.events.too_long
        taken = shared.send(batch, self.remote)
        if shared.events.too_long != before:
            self.inner.events.add(Sign.TOO_LONG)  # the session looks for it there
        return taken

    def forward(self, batch: DatagramBatch) -> None:
        """Give the session datagrams of the sender; without room they are lost, as on any path."""
        self._pump.socket.send(batch)

    def _send_waiting(self) -> None:
        for _ in range(BATCHES_PER_WAKE):
            received = self._pump.socket.receive()
            if received is None:
                return
            self.sizes.apply()
            try:
                self._shared.send(received[0], self.remote)
            except TransportError:
                continue  # counted among the events of the port
        self._pump.settle()

    def close(self) -> None:
        """Carry nothing any more."""
        self._pump.close()
