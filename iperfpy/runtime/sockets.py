"""Sockets and addresses: resolve, bind, listen, close. All sockets here are non-blocking TCP."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass

from iperfpy.errors import ConnectError, LateError, ListenError, PlanError, system_reason
from iperfpy.options import ServerOptions
from iperfpy.protocols import tcp_info
from iperfpy.protocols.addresses import MAPPED, named, plain_host
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.operating_system import IPPROTO_MPTCP, error_text, rebind_soon
from iperfpy.protocols.socket_watch import SocketWatch
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.name_lookup import look_up
from iperfpy.runtime.socket_options import bind_device

PORT_TRIES = 16
BACKLOG = 1024
"""Connections that wait to be accepted: a client that finds no room tries again only after a second."""
LINK_LOCAL = ("fe8", "fe9", "fea", "feb")  # fe80::/10, RFC 4291
DISCARD_READS, DISCARD_BYTES = 16, 64 * 1024
IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, UDP_HEADER_BYTES, TCP_HEADER_BYTES, TCP_STAMPS_BYTES = 20, 40, 8, 20, 12


def is_ipv6(address: SocketAddress) -> bool:
    """True if the address has IPv6's form."""
    return ":" in str(address[0])


def any_address(family: int) -> SocketAddress:
    """The wildcard address of a family, port 0."""
    return ("::", 0, 0, 0) if family == socket.AF_INET6 else ("0.0.0.0", 0)


async def resolve(host: str, port: int, family: int, device: str = "") -> list[tuple[int, SocketAddress]]:
    """The addresses of a host as (family, address), in the order to try them. A link-local IPv6 address that
    names no interface gets the one of `device`.

    Raises
    ------
    ConnectError
        The name has no address, or none of that family.
    PlanError
        A link-local address comes without an interface.
    """
    try:
        return [(found, _scoped(address, device)) for found, address in await look_up(host, port, family)]
    except (OSError, UnicodeError) as error:
        raise ConnectError(
            f"cannot find the host {host}{_of_family(family)}: {system_reason(error)}"
        ) from error


def _scoped(address: SocketAddress, device: str) -> SocketAddress:
    """The address with the scope that a link-local one needs. Raises `PlanError` if there is none."""
    if not is_ipv6(address) or address[3] or not str(address[0]).startswith(LINK_LOCAL):
        return address
    if not device:
        example = f"{address[0]}%eth0"
        raise PlanError(f"{address[0]} is valid on one link only: name its interface, as in {example}")
    try:
        return (address[0], address[1], address[2], socket.if_nametoindex(device))
    except OSError as error:
        raise PlanError(f"no interface named {device}") from error


async def resolve_within(
    scope: AbortScope, seconds: float, host: str, port: int, family: int, device: str = ""
) -> list[tuple[int, SocketAddress]]:
    """The addresses that `resolve` finds. Raises its errors, `LateError` after `seconds`, and the error of
    the scope's abort."""
    late = f"the name {host} was not resolved within {seconds:g} s"
    return await scope.wait(resolve(host, port, family, device), seconds, late)


async def resolve_local(
    scope: AbortScope, seconds: float, host: str, family: int, device: str = ""
) -> SocketAddress:
    """The local address that `-B host` names, port 0. Raises the errors of `resolve_within`, and `PlanError`
    if `host` is an address of another family."""
    try:
        found = await resolve_within(scope, seconds, host, 0, family, device)
    except ConnectError as error:
        if not _is_address(host):
            raise
        raise PlanError(
            f"cannot bind to {host}: it is no address{_of_family(family)} of this machine"
        ) from error
    return found[0][1]


def _is_address(host: str) -> bool:
    """True if `host` is an address and no name."""
    try:
        return bool(socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return False


def new_socket(family: int, protocol: int = 0) -> socket.socket:
    """A non-blocking TCP socket, or one of another stream protocol. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    if protocol:
        # asyncio resolves (type, proto) through getaddrinfo, which does not know MPTCP: wrap the descriptor
        # again with proto 0.
        sock = socket.socket(family, socket.SOCK_STREAM, 0, fileno=sock.detach())
    sock.setblocking(False)
    return sock


async def connect(sock: socket.socket, remote: SocketAddress) -> None:
    """Connect a non-blocking socket; the caller sets the deadline. Raises OSError.

    The event loop's own `sock_connect` would lose the scope of a link-local address under uvloop.
    """
    code = sock.connect_ex(remote)
    if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        watch, answered = SocketWatch(sock.fileno()), asyncio.Event()
        try:
            watch.write_once(answered.set)
            await answered.wait()
        finally:
            watch.close()
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, error_text(code))


def bind(sock: socket.socket, local: SocketAddress) -> None:
    """Bind a client's socket. Raises `PlanError`, which names the address."""
    if local[1]:
        rebind_soon(sock)
    try:
        sock.bind(local)
    except OSError as error:
        where = named(local) if local[1] else plain_host(local[0])
        raise PlanError(f"cannot bind to {where}: {system_reason(error)}") from error


def set_no_delay(sock: socket.socket) -> None:
    """Switch Nagle's algorithm off: control messages are small and must leave at once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def close_gently(sock: socket.socket) -> None:
    """Close a non-blocking socket so that its last message arrives.

    A socket that is closed with unread data makes the kernel send a reset, which can overtake the message.
    So this reads first: a bounded amount, without waiting.
    """
    try:
        for _ in range(DISCARD_READS):
            if not sock.recv(DISCARD_BYTES):
                break
    except OSError:
        pass  # nothing is left, or there is no connection: either way it can be closed
    sock.close()


def segment_size(sock: socket.socket) -> int | None:
    """The maximum segment size of a connected socket, bytes; None if the platform does not tell."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) or None
    except (OSError, AttributeError):
        return None


def packet_size(sock: socket.socket) -> int | None:
    """Bytes of the longest IP packet of a TCP connection: its segment size, and the headers with the options
    in use; None if the platform does not tell."""
    segment = segment_size(sock)
    if segment is None:
        return None
    try:
        plain = sock.family == socket.AF_INET or str(sock.getpeername()[0]).startswith(MAPPED)
    except OSError:
        return None
    # The kernel leaves the room of the time stamps, which every segment has, out of the segment size.
    stamps = TCP_STAMPS_BYTES if tcp_info.read(sock).uses_stamps else 0
    return segment + stamps + TCP_HEADER_BYTES + (IPV4_HEADER_BYTES if plain else IPV6_HEADER_BYTES)


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """The system's data about an open socket; None, or empty, if it has none."""

    mss_bytes: int | None = None
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None
    congestion: str = ""


def socket_facts(descriptor: int) -> SocketFacts:
    """Facts about a socket that belongs to a channel, which is left as it is. A closed one has none."""
    try:
        sock = socket.socket(fileno=descriptor)
    except (OSError, ValueError):  # a ValueError: the channel has failed, and its descriptor is -1
        return SocketFacts()
    try:
        return SocketFacts(
            segment_size(sock),
            _option(sock, socket.SO_SNDBUF),
            _option(sock, socket.SO_RCVBUF),
            tcp_info.congestion_control_of(sock) or "",
        )
    finally:
        sock.detach()


def _option(sock: socket.socket, name: int) -> int | None:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, name)
    except OSError:
        return None


async def listen(options: ServerOptions, scope: AbortScope, lookup_s: float) -> socket.socket:
    """A listening socket, of both families unless the options name an address or a family. `lookup_s`: limit
    of the look-up of a name.

    Raises
    ------
    ListenError
        The port is in use, the address is not this machine's, or permission is missing; or the resolver does
        not answer.
    """
    # The error names the port even if the address is what was wrong: the user knows the server by it.
    where = f"port {options.port}" + (f" of {options.bind}" if options.bind else "")
    try:
        family, address, dual = await listening_address(options, scope, lookup_s)
        if not options.port:
            return _listen_anywhere(family, address, dual, options.sockets.device)
        return _listen_at(family, address, dual, options.sockets.device)
    except OSError as error:
        raise ListenError(f"cannot listen on {where}: {system_reason(error)}") from error
    except (ConnectError, LateError, PlanError) as error:
        raise ListenError(f"cannot listen on {where}: {error}") from error


async def listening_address(
    options: ServerOptions, scope: AbortScope, lookup_s: float
) -> tuple[int, SocketAddress, bool]:
    """(family, address, True if an IPv6 socket also takes IPv4 clients). Raises the errors of
    `resolve_within`."""
    if options.bind:
        device = options.sockets.device
        found = await resolve_within(scope, lookup_s, options.bind, options.port, options.family, device)
        family, address = found[0]
        return family, address, address[0] == "::" and not options.family
    if options.family == socket.AF_INET or not _has_ipv6():
        return socket.AF_INET, ("0.0.0.0", options.port), False
    return socket.AF_INET6, ("::", options.port, 0, 0), not options.family


def _listen_anywhere(family: int, address: SocketAddress, dual: bool, device: str) -> socket.socket:
    """A listening socket at a port that the system chose. No UDP socket has its number: the server
    opens that UDP port next."""
    for tries_left in reversed(range(PORT_TRIES)):
        sock = _listen_at(family, address, dual, device)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address[0], sock.getsockname()[1], *address[2:]))
            except OSError:
                if tries_left:
                    sock.close()
                    continue
        break
    return sock


def _listen_at(family: int, address: SocketAddress, dual: bool, device: str) -> socket.socket:
    # A Multipath TCP socket does not tell the scope of its address, which the UDP port is opened with.
    has_scope = family == socket.AF_INET6 and address[3]
    sock = new_socket(family) if has_scope else _new_listener(family)
    try:
        if device:
            bind_device(sock, device)  # accepted sockets inherit it
        rebind_soon(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _new_listener(family: int) -> socket.socket:
    """A socket for connections over Multipath TCP with clients that offer it, else over plain TCP."""
    try:
        return new_socket(family, IPPROTO_MPTCP)
    except OSError:
        return new_socket(family)


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def _of_family(family: int) -> str:
    return {int(socket.AF_INET): " (IPv4)", int(socket.AF_INET6): " (IPv6)"}.get(family, "")
