"""Forms of socket addresses."""

from __future__ import annotations

import socket

from iperfpy.protocols.contract import SocketAddress

MAPPED = "::ffff:"
"""Prefix that a dual-stack socket gives the address of an IPv4 peer (RFC 4291, section 2.5.5.2)."""


def plain_host(host: object) -> str:
    """The host without the prefix of an IPv4-mapped address."""
    return str(host).removeprefix(MAPPED)


def plain(address: SocketAddress) -> SocketAddress:
    """The address with `plain_host`."""
    return (plain_host(address[0]), *address[1:])


def named(address: SocketAddress) -> str:
    """The address in a sentence, "192.0.2.1 port 5201"; every sentence with a host and a port asks here."""
    return f"{plain_host(address[0])} port {address[1]}"


def with_port(address: SocketAddress, port: int) -> SocketAddress:
    """Return the address of that host with another port."""
    return (address[0], port, *address[2:])


def family_of(address: SocketAddress) -> socket.AddressFamily:
    """The family of a numeric socket address."""
    return socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
