"""The contract between a transport and the program that runs it.

A transport is one object (`Transport`) that declares a `Settings` dataclass and its
`Metric`s, and makes one `Channel` per data stream: by `connect` at the client, by `accept`
at the server. A channel carries bytes in one direction at a time and keeps cumulative
counters. The program subtracts and reports them.

    client:  transport.connect(stream, settings, ClientPort)  -> Channel
    server:  transport.accept(stream, settings, ServerPort)   -> Channel
    both:    channel.send(load) | channel.receive()           until stopped
             channel.counters()                               at any moment
             channel.close()

Adding a transport: one class, one entry point in the group "iperfpy.transports".
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.metrics import Metric, Value
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.settings import Settings

SocketAddress = tuple[Any, ...]
"""(host, port) for IPv4, (host, port, flowinfo, scope) for IPv6, as the socket module has it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stream:
    """One data stream of a test, as both ends know it.

    `id` is iperf3's (1, 3, 4, 5, ...) and `index` counts from 0. `conv` is an unguessable 32-bit number that
    both ends agreed on over the control connection; 0 if the other end is a stock iperf3, which has none.
    `sends` is True at the sender. `block_bytes` is the test's block length (-l), or 0: the transport's own.
    `proves` is True if both ends know the proof of the client's UDP address (datagrams/address_proof.py).
    `features` are those of the transport that both ends have (`Transport.features`).
    `both_ways` is True if both ends send and receive on it at once (`Transport.both_ways`); the client is the
    end that `sends`.
    `bare` is True if the other end is a program without a control connection (`Transport.bare_peer`). `conv`
    is then this end's choice, or 0 at an end that waits for the other one, whose first datagram tells it.
    `smux` is the version of the smux frames that carry the payload of a bare stream; 0: its bytes are the
    payload. `compressed` is True if these frames are compressed as kcptun does it.
    """

    id: int
    index: int
    conv: int
    sends: bool
    block_bytes: int = 0
    proves: bool = False
    features: frozenset[str] = frozenset()
    both_ways: bool = False
    bare: bool = False
    smux: int = 0
    compressed: bool = False


class Load(Protocol):
    """The payload of one sender, with its pace and its end. Called from one thread per channel."""

    @property
    def may_block(self) -> bool:
        """True if `wait_us` may wait for a disk: other streams should not be sent by the same thread."""

    def wait_us(self, now_us: int) -> int:
        """Microseconds until the next block may be sent: 0 now, -1 never (finished or stopped)."""

    def take(self) -> memoryview:
        """The next block, never empty; call only after `wait_us` returned 0."""


class Channel(ABC):
    """One data stream at one end, open. Every method but `send` runs on the event loop's thread."""

    first_data_us: int | None = None
    """Arrival of the first payload, by the monotonic clock. None until then, or if the transport does not
    record it."""
    opening_us: int | None = None
    """Time from the first datagram of this client to the answer of the server, microseconds: a round trip
    before data flows, and more if a datagram was lost. None without such an exchange."""

    @property
    def heard_us(self) -> int | None:
        """Arrival of the latest datagram or segment of the peer, by the monotonic clock. None until then, or
        if the transport does not record it: a receiver's payload is then the only sign of the peer."""
        return None

    def signs(self, since_us: int) -> tuple[str, ...]:
        """Errors about this stream's path that were reported later than `since_us`, one predicate of the
        peer's name each ("was reported to be unreachable")."""
        return ()

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor of the socket underneath, for setsockopt and the like."""

    @property
    @abstractmethod
    def local_address(self) -> SocketAddress: ...

    @property
    @abstractmethod
    def remote_address(self) -> SocketAddress: ...

    @abstractmethod
    def counters(self) -> dict[str, Value]:
        """The present record: `bytes` and the metrics of this side. `bytes` is payload: of a sender, as far
        as it was acknowledged or at least left the local queue; of a receiver, as far as it was delivered in
        order. It begins at 0, as the counters of `Transport.delivery` do. Counters never fall, and stay after
        `close`."""

    def held_bytes(self) -> int:
        """Payload that has arrived and is not in `bytes` yet, because it waits for a missing part. When the
        omitted period ends (-O), the program counts it as received in that period."""
        return 0

    def evidence(self) -> PathEvidence | None:
        """This end's record of the path, from which the program concludes what limited the test. Optional:
        None if the transport keeps no record. The program asks once, when this end stops counting, before
        `close`; a record covers the whole stream, with the omitted period (-O)."""
        return None

    def warnings(self) -> tuple[str, ...]:
        """Reasons why this end may measure less than the path carries, one sentence each. The program asks
        when the data starts to flow, and again when this end stops counting."""
        return ()

    @abstractmethod
    async def send(self, load: Load) -> None:
        """Carry blocks of `load` until it has no more. Returns when the last one was accepted.
        Raises `TransportError` when the peer ends it. A silence of the path does not end it, nor does an
        error about one datagram (path_events.py): the program decides how long a test waits."""

    @abstractmethod
    async def receive(self) -> None:
        """Receive and count until the peer closes or `close` is called."""

    def keep(self, write: Callable[[memoryview], None]) -> None:
        """Make `receive` call `write` with the payload, in order. Called before `receive`. The view is valid
        during the call only, and an error that `write` raises ends the stream. Raises `SettingsError` if the
        transport cannot."""
        raise SettingsError("this transport cannot write received data to a file (-F)")

    def wake(self) -> None:
        """The load of `send` has a block now, before the time that its `wait_us` gave: ask it again at once.
        Only on a stream that goes both ways. Called from the thread in which `keep`'s `write` is called."""
        return

    def returned(self) -> Channel:
        """The other direction of a stream that goes both ways, and sends here: a channel that receives, and
        is closed with this one. Raises `SettingsError` if the transport has no `Transport.bare_peer`."""
        raise SettingsError("this transport has no stream that goes both ways")

    def wire_bytes(self) -> tuple[int, int] | None:
        """Bytes of IP packets that this end has sent and received on this stream, headers and repetitions
        included, as far as the transport can tell: (sent, received). None: it cannot."""
        return None

    def withdraw(self) -> None:
        """The test is over: nothing that this end sends is needed any more. Send no payload from now on:
        neither data that was accepted and has never left, nor again data that is on its way. It may be called
        again, and after `close`. A transport that leaves this to its operating system has nothing to do."""
        return

    @abstractmethod
    async def drain(self) -> None:
        """Wait until the peer has acknowledged all payload that `send` accepted; the caller sets the
        deadline."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything at once; `send` and `receive` in progress return. Idempotent."""


class ClientPort(Protocol):
    """Services of the program for a transport at the client, for one test."""

    @property
    def remote(self) -> SocketAddress:
        """The server's address and port, for TCP and for the UDP port that transports share."""

    @property
    def remote_udp(self) -> SocketAddress:
        """The server's address and the UDP port of this transport: the port that the server announced for it
        (`Transport.own_udp_port`), else that of `remote`."""

    @property
    def packet_bytes(self) -> int | None:
        """Bytes of the longest IP packet of the control connection, by its segment size; None: not known."""

    @property
    def secret(self) -> bytes | None:
        """The secret of this transport, as the user of this end gave it; None: there is none."""

    def local(self, stream: Stream) -> SocketAddress | None:
        """The address to bind this stream's socket to (-B, --cport), or None."""

    def prepare(self, sock: socket.socket) -> None:
        """Apply the user's socket options (an interface, a flow label). A transport calls it with every data
        socket that it makes itself, before it binds it."""

    async def connection(
        self, stream: Stream, prepare: Callable[[socket.socket], None] | None = None, protocol: int = 0
    ) -> socket.socket:
        """A non-blocking TCP connection to the server that has presented this test's cookie.
        `prepare` sees the socket before it is bound and connected. `protocol`: of the socket, 0 is TCP.
        Raises OSError if this system does not have that protocol."""


class ServerPort(Protocol):
    """Services of the program for a transport at the server, for one test.

    The server owns its port number, in TCP and in UDP: no transport binds it. A transport takes TCP
    connections with `connection`, shares the UDP port with `datagrams.server_port.accept_path(stream, port)`,
    or declares `Transport.own_udp_port` and gets a UDP port of its own with `own_udp`.
    """

    @property
    def local(self) -> SocketAddress:
        """The address and port that the server listens on."""

    @property
    def client(self) -> SocketAddress:
        """The client's address and the port of its control connection; of a bare stream, an empty host: any
        client may come."""

    def proven(self, address: SocketAddress) -> bool:
        """True if datagrams may be sent to `address`: its host is the one of the control connection, whose
        address TCP's handshake has proven. A source address can be forged, so a transport with a UDP port of
        its own asks before it sends anything. If the answer is False and the stream does not open, the
        program names the address to the user. On the shared port, `accept_path` asks."""

    @property
    def packet_bytes(self) -> int | None:
        """Bytes of the longest IP packet of the control connection, by its segment size; None: not known."""

    @property
    def secret(self) -> bytes | None:
        """The secret of this transport, as the user of this end gave it; None: there is none."""

    def prepare(self, sock: socket.socket) -> None:
        """Apply the socket options of the server's user (an interface). A transport calls it with every data
        socket that it makes itself."""

    async def connection(self) -> socket.socket:
        """The next TCP connection that presents this test's cookie, non-blocking."""

    def shared(self, open: Callable[[SocketAddress], T]) -> T:
        """The object that `open(local)` makes, once per server: all tests share it. The server calls its
        `close()` when it ends."""

    def own_udp(self, open: Callable[[socket.socket], T]) -> T:
        """The object that `open(sock)` makes, once per server, over this transport's own UDP socket: bound,
        non-blocking, its port number announced to the client. All tests of the transport share it. The server
        calls its `close()` when it ends, and then closes the socket. Only for a transport that declares
        `Transport.own_udp_port`."""


class Iperf3Options(NamedTuple):
    """The settings of a test for which iperf3's JSON has keys of its own; None or False: not asked for."""

    socket_buffer_bytes: int | None = None
    mss_bytes: int | None = None
    offload: bool = False


@dataclass(frozen=True, slots=True)
class Iperf3Mapping:
    """The place of a transport in iperf3's protocol and JSON.

    `key` selects the transport in iperf3's parameters ("tcp", "udp"); the settings then travel as top-level
    parameters under their wire names. Empty: both ends must be iperfpy. `merged_as` names the one JSON object
    in which iperf3 sums both ends of a stream up; empty: a sender and a receiver object.

    `socket_buffer`, `mss` and `offload` name the settings that hold the socket buffer (bytes), the segment
    size (bytes) and the request for GSO and GRO. Empty: the transport has no such setting.
    """

    key: str = ""
    merged_as: str = ""
    socket_buffer: str = ""
    mss: str = ""
    offload: str = ""

    def options(self, settings: Settings) -> Iperf3Options:
        """The values of the named settings."""
        record = settings.record()
        return Iperf3Options(
            record.get(self.socket_buffer), record.get(self.mss), bool(record.get(self.offload))
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """Counters of both ends that count the same units, each named by the key of a COUNTER metric.

    A transport that may lose data declares one. After the test the program compares the two ends: a receiver
    does not know of units that were lost after the last arrival, the sender's count shows them.

    Parameters
    ----------
    unit : plural noun for one unit, such as "datagrams"
    sent : counter of the sender: units that left
    known : counter of the receiver: units that it knows to have been sent, by the numbers in them
    missing : counter of the receiver: units of `known` that did not arrive
    received, repeated : counters of the receiver: arrivals, and those of a unit that had arrived before
    """

    unit: str
    sent: str
    known: str
    missing: str
    received: str
    repeated: str

    @property
    def receiver_keys(self) -> frozenset[str]:
        """The counters of the receiver."""
        return frozenset((self.known, self.missing, self.received, self.repeated))


class Transport(ABC):
    """A protocol that can be measured. Instances hold no state; every stream gets a `Channel`."""

    name: ClassVar[str]
    """The name for `--proto`, and of the entry point."""
    summary: ClassVar[str]
    """One line for the help."""
    prefix: ClassVar[str]
    """Generated flags are `--<prefix>-<field>`; two transports may share a prefix and its flags."""
    settings: ClassVar[type[Settings]]
    metrics: ClassVar[tuple[Metric, ...]]
    iperf3: ClassVar[Iperf3Mapping] = Iperf3Mapping()
    flags: ClassVar[tuple[str, ...]] = ()
    """Flags that select this transport beside `--proto NAME`."""
    reliable: ClassVar[bool] = True
    """True if all data that was sent arrives, once and in order."""
    fills_files: ClassVar[bool] = True
    """False if the receiver of a stream of one direction has no `Channel.keep`: a test that would write to a
    file (-F) is then refused before it begins."""
    delivery: ClassVar[Delivery | None] = None
    """The counters by which both ends are compared; None if `bytes` alone tell what arrived."""
    datagrams: ClassVar[bool] = False
    """True if a block is a datagram and never cut; False: a load is a stream of bytes, cut anywhere."""
    own_udp_port: ClassVar[bool] = False
    """True if the server opens a UDP port for this transport alone and announces it to the client."""
    features: ClassVar[tuple[str, ...]] = ()
    """Names of additions to this transport's wire format since its first version, unique among all
    transports. Either end names its own over the control connection; a stream uses those that both have
    (`Stream.features`)."""
    both_ways: ClassVar[bool] = False
    """True if a stream can send and receive at once, at both ends (`Stream.both_ways`). Its channels then let
    `send` and `receive` run together, have `keep` and `wake`, and give each datagram of a transport of
    datagrams to `keep`'s `write` in a call of its own. A message test needs that."""
    secret: ClassVar[str] = ""
    """Noun phrase for a secret that the users of both ends share; empty: it has none. It never travels and is
    in no record, as settings are: `connect` and `accept` take it from their port. The flags are
    `--<prefix>-key` and `--<prefix>-key-file`."""
    least_secret_bytes: ClassVar[int] = 0
    """Length of the shortest secret. A server does not start with a shorter one."""
    bare_peer: ClassVar[str] = ""
    """Noun for programs of other authors that speak this protocol without a control connection ("KCP peer");
    empty: there are none. `connect` and `accept` then take streams that are `Stream.bare`: `accept` waits on
    the shared port for the first datagram of any peer. Until the peer has proven its address, it gets no more
    bytes than came from it. A stream of a sender is open once the address is proven."""
    smux_versions: ClassVar[tuple[int, ...]] = ()
    """Versions of smux in which a bare stream can carry its payload (`Stream.smux`)."""
    header_bytes: ClassVar[int] = 0
    """Bytes of this protocol's header in each full packet. Reports subtract them from
    `Meaning.FULL_DATAGRAM` if the sender does not report `Meaning.FULL_PAYLOAD`."""
    over_udp: ClassVar[bool] = False
    """True if its packets are UDP datagrams. Networks may treat these unlike TCP."""
    variant: ClassVar[str] = ""
    """Name of the setting that tells the kinds of this transport apart, such as its congestion control:
    `NAME:VALUE` chooses one in a comparison. Empty: it has none."""
    window_settings: ClassVar[tuple[str, str] | tuple[()]] = ()
    """Names of the settings of the send and of the receive window, for advice; empty: it has none."""
    rate_bps: ClassVar[int] = 0
    """The rate (-b) unless the user gives one, bits per second; 0: unlimited."""
    block_limits: ClassVar[tuple[int, int]] = (1, 1024 * 1024)
    """The shortest and the longest block (-l), bytes."""
    blocks_per_take: ClassVar[int] = 1
    """Most blocks that one `Load.take` returns, for a transport of datagrams; several save calls."""
    bulk_bytes: ClassVar[int] = 0
    """Above 0: bytes that one `Load.take` returns, for a transport of bytes, unless the user sets a rate or a
    block length. Larger than a block, it saves system calls."""

    def iperf3_parameters(self, settings: Settings, block_bytes: int) -> dict[str, Any]:
        """The top-level parameters for this transport in iperf3's words, beside `iperf3.key`."""
        return settings.to_wire()

    def iperf3_settings(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings in a stock client's top-level parameters, by wire key; other keys are ignored."""
        return parameters

    def check(self, settings: Settings, *, sends: bool) -> None:
        """Raise `SettingsError` if this machine cannot be the client of such a test. The client calls it
        before it connects; `sends`: True if the client sends on any stream."""
        return

    def for_messages(self, settings: Settings) -> Settings:
        """The settings with which a short message leaves at once, as far as the protocol lets it: without
        Nagle's algorithm (RFC 896). Timers that belong to the protocol stay as they are."""
        return settings

    def uses_secret(self, settings: Settings) -> bool:
        """True if a test with these settings uses the secret. To give one for another test is an
        error, because the test would not be protected."""
        return bool(self.secret)

    def check_secret(self, settings: Settings, secret: bytes | None) -> None:
        """Raise `SettingsError` if this end cannot run such a test with that secret, or without one. Either
        end calls it before a stream is opened. A server's sentence goes to the client, so that it must tell
        nothing about the secret."""
        return

    def check_compression(self) -> None:
        """Raise `SettingsError` if this end lacks the package for streams that are `Stream.compressed`."""
        return

    def needed_features(self, settings: Settings) -> Mapping[str, str]:
        """The features without which the other end cannot run a test with these settings, each with the words
        for its user: a server that does not name one of them is refused before the test begins."""
        return {}

    def bare_settings(self, settings: Settings) -> str:
        """The settings that a bare peer must have as well, for the sentence about one that does not answer:
        a noun phrase, or empty."""
        return ""

    def remarks(self, sender: Mapping[str, Value]) -> tuple[str, ...]:
        """Sentences that the sender's figures of the whole test, at either end, ask for: the program prints
        them as warnings. `sender`: by metric key, and its payload under `bytes`."""
        return ()

    def notices(self, sender: Mapping[str, Value]) -> tuple[str, ...]:
        """Sentences about the path that the sender's figures of an interval, or of the whole test, ask for:
        the program prints each with the interval that first asks for it. `sender` as for `remarks`."""
        return ()

    def payload(self, settings: Settings, size_bytes: int) -> bytes:
        """The payload that a stream repeats: random bytes unless a setting asks for other content."""
        return os.urandom(size_bytes)

    @abstractmethod
    def block_bytes(self, settings: Settings) -> int:
        """The block length (-l) unless the user gives one, bytes."""

    @abstractmethod
    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        """Open the client's end of `stream`. Waits without limit: the caller sets the deadline."""

    @abstractmethod
    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        """Open the server's end of `stream`. Before its first wait, the transport must be ready for the
        client, which connects right after."""
