"""Addresses of a host name, without the event loop's thread pool.

A pool of threads is joined when the loop ends, so a resolver that does not answer would hold the program, and
uvloop's own lookup loses the scope of a link-local address. Here an address is read without any thread, and
a name is looked up by a daemon thread of its own that nothing waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.threads import start_thread

Found = list[tuple[int, SocketAddress]]


async def look_up(host: str, port: int, family: int) -> Found:
    """The addresses of a host as (family, address), in the resolver's order; the scope of a link-local IPv6
    address (`fe80::1%eth0`) is the fourth item of its address. Waits without limit.

    Raises
    ------
    OSError, UnicodeError
        The name has no address, or none of that family; or the system allows no thread for the lookup.
    """
    with contextlib.suppress(socket.gaierror):
        return _addresses(host, port, family, socket.AI_NUMERICHOST)
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Found] = loop.create_future()

    def finish(found: Found, error: Exception | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(found)
        else:
            result.set_exception(error)

    def run() -> None:
        found: Found = []
        failure: Exception | None = None
        try:
            found = _addresses(host, port, family)
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed before the resolver answered
            loop.call_soon_threadsafe(finish, found, failure)

    start_thread(run, f"lookup-{host}")
    return await result


def _addresses(host: str, port: int, family: int, flags: int = 0) -> Found:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=flags)
    return [(int(each[0]), each[4]) for each in found]
