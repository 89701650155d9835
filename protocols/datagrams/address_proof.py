"""Proof that a client receives at the UDP address that its datagrams name as their source.

A source address can be forged, and one datagram can start a stream of gigabytes. So the server sends nothing
but challenges to an address that has not proven itself. The proof is a random cookie that comes back from the
address that it was sent to:

    client                                              server's shared port
       |  tag, zeros              opening  ------------->  |   no session at this address: challenge it
       |  <------------- challenge        tag, cookie      |   one per opening, of the same length
       |  tag, cookie             proof  --------------->  |   admit the session, or move it here
       |  conv, ...               the transport's own ---> |

A proof is the challenge, returned unchanged. Every datagram of the three has `PROOF_BYTES`:

    offset 0   u32 little-endian   tag: the stream's conv with all bits inverted
           4   6 bytes             cookie, never zero; of an opening, zeros

With an iperf3 header (12 bytes and more), a KCP segment (24 and more), a UDP probe (11) or call (4) they
cannot be mistaken, and the tag tells them from other datagrams of the stream, which begin with its conv.

The client repeats its opening, at first until it is challenged, then every `REPEAT_S` for the stream's life.
The server ignores an opening from the session's own address. From another one, which a NAT gave the client in
mid-test, it challenges that address, as it challenges any datagram of the session's conv that is at least as
long as a challenge. The session keeps its old address until the proof of the new one has come. A lost
datagram of the three needs no timer of its own: the next opening begins anew.

Both ends do this if both have the feature "udp-address-proof". From another client (a stock iperf3, an older
iperfpy) a stream's first datagram must come from the host of the control connection: TCP's handshake has
proven that address.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections.abc import Callable

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.batch import DatagramBatch

PROOF_BYTES = 10
FIRST_S, LONGEST_S = 0.1, 1.0
"""Pauses between openings until the first challenge comes."""
REPEAT_S = 0.25
"""Pause between openings afterwards: a changed address is noticed within it, for 1.3 kb/s of IPv4."""
MOST_PENDING = 4
"""Addresses of one stream with a challenge that is not answered; a further one replaces the oldest."""

_COOKIE_BYTES = 6
_FORMAT = struct.Struct("<I6s")

Addresses = tuple[SocketAddress, SocketAddress]
"""(remote, local) of a datagram at the server."""


def tag_of(conv: int) -> int:
    """The first word of a stream's openings, challenges and proofs; of a tag, the conv."""
    return conv ^ 0xFFFF_FFFF


class Prover:
    """The client's end. It keeps no state, so that any thread may answer."""

    def __init__(self, conv: int) -> None:
        self.opening = _FORMAT.pack(tag_of(conv), bytes(_COOKIE_BYTES))

    def answer(self, datagram: bytes | memoryview) -> bytes:
        """Make the proof that a challenge of this stream asks for; empty if `datagram` is none."""
        # Only its own stream's: a client must not return datagrams that an attacker made the server send.
        is_challenge = (
            len(datagram) == PROOF_BYTES and datagram[:4] == self.opening[:4] and datagram != self.opening
        )
        return bytes(datagram) if is_challenge else b""


class Verifier:
    """The server's end, for one stream.

    Parameters
    ----------
    random_bytes : makes cookies that cannot be guessed
    """

    def __init__(self, conv: int, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._tag = tag_of(conv)
        self._random_bytes = random_bytes
        self._pending: dict[Addresses, bytes] = {}

    def challenge(self, addresses: Addresses) -> bytes:
        """The datagram for an address that is to prove itself. It stays the same until the proof comes, so
        that a late answer counts."""
        if addresses not in self._pending:
            if len(self._pending) >= MOST_PENDING:
                del self._pending[next(iter(self._pending))]
            cookie = bytes(_COOKIE_BYTES)
            while not any(cookie):
                cookie = self._random_bytes(_COOKIE_BYTES)
            self._pending[addresses] = _FORMAT.pack(self._tag, cookie)
        return self._pending[addresses]

    def accepts(self, datagram: bytes, addresses: Addresses) -> bool:
        """True if `datagram` is the proof of that address. A proof counts once."""
        pending = self._pending.get(addresses)
        if pending is None or not hmac.compare_digest(pending, datagram):
            return False
        self._pending.clear()
        return True


def split_last(batch: DatagramBatch, tag: bytes) -> tuple[DatagramBatch | None, list[bytes]]:
    """Separate openings, challenges and proofs from the datagrams of a transport.

    Parameters
    ----------
    batch : its last datagram has `PROOF_BYTES`
    tag : the first four bytes of the stream's openings

    Returns
    -------
    (rest, taken) : the batch without them, None if nothing is left; and those that were taken out
    """
    # A batch has one datagram size, but for a shorter last one: either all are of that length, or the last.
    if batch.stride == PROOF_BYTES or batch.count == 1:
        taken = [bytes(datagram) for datagram in batch]
        if all(datagram[:4] == tag for datagram in taken):
            return None, taken
        return batch, []
    last = bytes(batch.data[batch.size - PROOF_BYTES : batch.size])
    return (batch.head(batch.count - 1), [last]) if last[:4] == tag else (batch, [])
