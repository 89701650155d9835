"""DatagramSocket over loopback: all datagrams arrive unchanged, with and without the kernel's offload."""

from __future__ import annotations

import select
import socket

import numpy as np
import pytest

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket, offload_of
from iperfpy.protocols.errors import StreamPathError, StreamPeerError, TransportError
from iperfpy.protocols.path_events import Sign

LOOPBACK: dict[str, SocketAddress] = {"IPv4": ("127.0.0.1", 0), "IPv6": ("::1", 0, 0, 0)}


@pytest.fixture(params=LOOPBACK)
def local(request: pytest.FixtureRequest) -> SocketAddress:
    return LOOPBACK[request.param]


@pytest.fixture(params=[True, False], ids=["offload", "plain"])
def offload(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def random_batch(count: int, stride: int, last_size: int, seed: int = 7) -> DatagramBatch:
    size = (count - 1) * stride + last_size
    return DatagramBatch(
        np.random.default_rng(seed).integers(0, 256, size, np.uint8), stride, count, last_size
    )


def receive_all(sock: DatagramSocket, datagrams: int) -> list[bytes]:
    """Receive `datagrams` datagrams, or those that arrive before a second of silence."""
    got: list[bytes] = []
    while len(got) < datagrams and select.select([sock], [], [], 1.0)[0]:
        while (received := sock.receive()) is not None:
            got += [bytes(datagram) for datagram in received[0]]
    return got


@pytest.mark.parametrize(
    ("count", "stride", "last_size"),
    [
        (1, 1400, 1400),
        (1, 4, 4),
        (2, 100, 100),
        (46, 1400, 1400),
        (46, 1400, 7),
        (64, 24, 24),
        (10, 9000, 9000),
    ],
)
def test_datagrams_keep_their_borders(
    local: SocketAddress, offload: bool, count: int, stride: int, last_size: int
) -> None:
    batch = random_batch(count, stride, last_size)
    with (
        DatagramSocket.bound(local, offload=offload) as receiver,
        DatagramSocket.connected(receiver.local_address, offload=offload) as sender,
    ):
        assert sender.send(batch) == count
        assert receive_all(receiver, count) == [bytes(datagram) for datagram in batch]


def test_a_batch_too_large_for_one_call_is_split(local: SocketAddress, offload: bool) -> None:
    batch = random_batch(150, 1000, 400)  # more than 64 datagrams, more than 65,507 bytes
    with (
        DatagramSocket.bound(local, offload=offload) as receiver,
        DatagramSocket.connected(receiver.local_address, offload=offload) as sender,
    ):
        receiver.size_buffers(1 << 20)
        assert sender.send(batch) == 150
        assert receive_all(receiver, 150) == [bytes(datagram) for datagram in batch]


def test_an_unconnected_socket_answers_the_sender(local: SocketAddress, offload: bool) -> None:
    with (
        DatagramSocket.bound(local, offload=offload) as server,
        DatagramSocket.connected(server.local_address, offload=offload) as client,
    ):
        client.send(random_batch(3, 50, 50))
        select.select([server], [], [], 1.0)
        received = server.receive()
        assert received is not None
        assert received[1] == client.local_address
        server.send(random_batch(5, 60, 10, seed=1), received[1])
        assert receive_all(client, 5) == [bytes(datagram) for datagram in random_batch(5, 60, 10, seed=1)]


def test_an_empty_queue_gives_none() -> None:
    with DatagramSocket.bound(("127.0.0.1", 0)) as sock:
        assert sock.receive() is None
        assert sock.emptied
        assert sock.receive_at() is None


def test_emptied_is_true_once_the_queue_is_empty() -> None:
    """Datagrams of one size are read together; those of another size stay for the next call."""
    with (
        DatagramSocket.bound(("127.0.0.1", 0)) as receiver,
        DatagramSocket.connected(receiver.local_address) as sender,
    ):
        # Datagrams of 60 bytes follow the first run, so the queue is empty only after the second call.
        for count, stride in ((3, 50), (2, 60)):
            sender.send(random_batch(count, stride, stride))
        select.select([receiver], [], [], 1.0)
        seen = []
        while (received := receiver.receive()) is not None:
            seen.append((received[0].count, receiver.emptied))
            if receiver.emptied:
                break
        assert seen == [(3, False), (2, True)]


def test_an_empty_datagram_is_one_datagram() -> None:
    with (
        DatagramSocket.bound(("127.0.0.1", 0)) as receiver,
        DatagramSocket.connected(receiver.local_address) as sender,
    ):
        sender.send(DatagramBatch(np.empty(0, np.uint8), 0, 1, 0))
        select.select([receiver], [], [], 1.0)
        received = receiver.receive()
        assert received is not None
        assert (received[0].count, received[0].size) == (1, 0)


def test_a_full_send_buffer_takes_a_part_and_the_rest_is_sent_later() -> None:
    """A UNIX socket pair replaces a UDP socket with a full buffer, because loopback never fills one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, DatagramSocket(ours, offload=False) as sender:
        batch = random_batch(2000, 1000, 1000)
        taken = sender.send(batch)
        assert 0 < taken < batch.count
        arrived = [theirs.recv(2000) for _ in range(taken)]
        assert arrived == [bytes(datagram) for datagram in batch][:taken]
        assert sender.send(DatagramBatch(batch.data[taken * 1000 :], 1000, 1, 1000)) == 1


def test_a_refusal_is_counted_and_raised_by_check(local: SocketAddress, offload: bool) -> None:
    with DatagramSocket.bound(local) as gone:
        address = gone.local_address
    with DatagramSocket.connected(address, offload=offload) as sender:
        sender.check()
        for _ in range(4):
            assert sender.send(random_batch(4, 100, 100)) == 4
        sender.receive()
        assert sender.events.counts.keys() == {Sign.REFUSED}
        with pytest.raises(StreamPeerError, match="refuses UDP"):
            sender.check()


def test_a_datagram_beyond_udp_names_the_mtu(local: SocketAddress) -> None:
    with (
        DatagramSocket.bound(local) as receiver,
        DatagramSocket.connected(receiver.local_address) as sender,
        pytest.raises(StreamPathError, match="MTU"),
    ):
        sender.send(random_batch(1, 65_530, 65_530))


def test_the_environment_switches_offload_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPERFPY_NO_OFFLOAD", "1")
    with DatagramSocket.bound(("127.0.0.1", 0)) as sock:
        assert not sock.uses_gso
    monkeypatch.setenv("IPERFPY_NO_OFFLOAD", "0")
    with DatagramSocket.bound(("127.0.0.1", 0)) as sock:
        assert sock.uses_gso == offload_of(socket.AF_INET)[0]


@pytest.mark.linux
def test_size_buffers_returns_the_granted_sizes() -> None:
    with DatagramSocket.bound(("127.0.0.1", 0)) as sock:
        send, receive = sock.size_buffers(100_000)
        assert (send, receive) == (100_000, 100_000)
        assert sock.size_buffers(1 << 29)[1] > receive


def test_a_port_in_use_is_named() -> None:
    with (
        DatagramSocket.bound(("127.0.0.1", 0), reuse=False) as first,
        pytest.raises(TransportError, match=f"cannot use UDP port {first.local_address[1]} of 127.0.0.1"),
    ):
        DatagramSocket.bound(first.local_address, reuse=False)


@pytest.mark.parametrize("local", [("0.0.0.0", 0), ("::", 0, 0, 0)])
def test_a_port_of_all_addresses_is_named_without_one(local: SocketAddress) -> None:
    with DatagramSocket.bound(local, reuse=False) as first:
        port = first.local_address[1]
        with pytest.raises(TransportError, match=rf"^cannot use UDP port {port}: the port is in use$"):
            DatagramSocket.bound(first.local_address, reuse=False)


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(TransportError, match=r"192\.0\.2\.1"):
        DatagramSocket.connected(("127.0.0.1", 9), ("192.0.2.1", 0))


@pytest.mark.linux
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_receive_at_returns_the_destination(host: str) -> None:
    with DatagramSocket.bound(("0.0.0.0", 0)) as server:
        server.report_destination()
        port = server.local_address[1]
        with DatagramSocket.connected((host, port)) as client:
            client.send(random_batch(2, 30, 30))
            select.select([server], [], [], 1.0)
            received = server.receive_at()
            assert received is not None
            assert received[1] == client.local_address
            assert received[2] == (host, port)
            assert received[0].size == 60
