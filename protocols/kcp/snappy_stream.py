"""The compression of kcptun between smux and KCP: Snappy's framing format.

    offset 0   u8                   type: 0 compressed, 1 not compressed, 255 beginning of the stream;
                                    128 to 254 may be passed over, and all others may not
           1   u24 little-endian    length of the rest
           4   u32 little-endian    masked CRC-32C of the data: types 0 and 1
           8                        the data: at most 65,536 bytes before compression

A stream begins with `IDENTIFIER`, which may be repeated. A stranger's data grows by a factor of 22 at most,
and by one chunk at a time.

    frames of smux -> Compression.seal -> KCP stream -> Compression.open -> frames of smux
"""

from __future__ import annotations

from collections.abc import Iterator

from iperfpy.protocols.errors import SettingsError, StreamPeerError
from iperfpy.protocols.kcp.envelope.crypt_names import Feature

IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
HEADER_BYTES, CHECKSUM_BYTES = 4, 4
MOST_DATA = 65_536
"""Bytes of the longest chunk before compression."""
MOST_CHUNK = CHECKSUM_BYTES + 32 + MOST_DATA + MOST_DATA // 6
"""Length of the longest chunk: Snappy's bound for data that does not become shorter."""
_COMPRESSED, _PLAIN, _FIRST_SKIPPED, _BEGINNING = 0, 1, 128, 255
_FEATURE = Feature("cramjam", "snappy.decompress", "cramjam")


def check_package() -> None:
    """Raise `SettingsError` if this end lacks the package that compresses."""
    if not _FEATURE.is_present:
        raise SettingsError(
            f"--compress needs the extra 'snappy' ({_FEATURE.package}): pip install 'iperfpy[snappy]'"
        )


class Compression:
    """Compresses the direction that leaves, and uncompresses the one that arrives, of which it keeps less
    than one chunk between calls.

    Attributes
    ----------
    arrived_bytes : compressed
    """

    __slots__ = ("_arrived", "_begun", "_error", "_rest", "_snappy", "arrived_bytes")

    def __init__(self) -> None:
        from cramjam import DecompressionError, snappy

        self._snappy, self._error = snappy, DecompressionError
        self._begun = self._arrived = False  # either direction
        self._rest = bytearray()  # of a chunk that has not come whole
        self.arrived_bytes = 0

    def seal(self, data: bytes) -> bytes:
        """Compress `data`, which is not empty, into chunks that the peer can read without later ones."""
        sealed = bytes(self._snappy.compress(data))
        if self._begun:
            return sealed[len(IDENTIFIER) :]
        self._begun = True
        return sealed

    def open(self, data: memoryview) -> Iterator[memoryview]:
        """The data of each chunk that is whole now.

        Raises
        ------
        StreamPeerError
            When the bytes are not of this format, or damaged.
        """
        self.arrived_bytes += len(data)
        rest, at = self._rest, 0
        rest += data
        while len(rest) - at >= HEADER_BYTES:
            kind, length = rest[at], int.from_bytes(rest[at + 1 : at + HEADER_BYTES], "little")
            self._check_header(kind, length)
            end = at + HEADER_BYTES + length
            if end > len(rest):
                break
            chunk = bytes(rest[at:end])
            if kind == _BEGINNING:
                self._begin(chunk)
            elif kind in (_COMPRESSED, _PLAIN):
                yield self._opened(chunk)
            at = end
        del rest[:at]

    def _check_header(self, kind: int, length: int) -> None:
        if not self._arrived and kind != _BEGINNING:
            raise StreamPeerError("the peer does not compress its stream: leave --compress out")
        if _PLAIN < kind < _FIRST_SKIPPED:
            raise StreamPeerError(f"the peer's compressed stream has a chunk of the unknown type {kind}")
        if length > MOST_CHUNK:
            raise StreamPeerError(f"the peer's compressed stream has a chunk of {length:,} bytes")

    def _begin(self, chunk: bytes) -> None:
        if chunk != IDENTIFIER:
            raise StreamPeerError(f"the peer's stream is not compressed by Snappy ({chunk[:14].hex()})")
        self._arrived = True

    def _opened(self, chunk: bytes) -> memoryview:
        """The data of a chunk, with its checksum right."""
        try:
            # The package knows whole streams only.
            return memoryview(self._snappy.decompress(IDENTIFIER + chunk))
        except self._error as error:
            raise StreamPeerError(f"the peer's compressed stream is damaged: {error}") from None
