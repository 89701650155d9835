"""Reed-Solomon coding of shards: whole batches of sets at once.

A *set* has `data` shards, and `parity` shards computed from them; any `data` of all restore the others. The
same-index shards of many sets lie side by side in one row, so that a row is long, and one numpy call covers
all sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp.envelope.galois_field import PRODUCTS, inverted, parity_matrix
from iperfpy.protocols.kcp.wire import Bytes

MOST_SHARDS = 256
"""Most shards of a set: the field has 256 elements."""
WORD_BYTES = 8
"""The length of a row is a multiple of this."""

_SHORT_BYTES = 8192
"""Rows below this length go by table: 100 numpy calls cost more than the look-ups."""
_CACHE_BYTES = 1 << 19
"""Bytes that a step works on: about the second-level cache of one core."""
_LEAST_WORDS = 512
_BYTES_OF_TWO = np.uint64(0x1D)
_TABLES = tuple(row.tobytes() for row in PRODUCTS)


class Geometry(NamedTuple):
    """Data and parity shards of a set."""

    data: int
    parity: int

    @property
    def shards(self) -> int:
        """Shards of a set."""
        return self.data + self.parity


def padded(size: int) -> int:
    """The length of a row that holds `size` bytes."""
    return -(-size // WORD_BYTES) * WORD_BYTES


def encoded(geometry: Geometry, shards: Bytes) -> Bytes:
    """The parity shards (parity, n) of data shards (data, n), contiguous, n as `padded` gives it."""
    return combined(parity_matrix(*geometry), shards)


def restored(
    geometry: Geometry, parities: tuple[int, ...], sets: Sequence[Mapping[int, bytes]], shard_bytes: int
) -> Iterator[dict[int, bytes]]:
    """The missing data shards of each set, by index.

    The parity of the data that is there is computed as for `encoded`, for all sets at once. Its difference
    from the parity that arrived is the parity of the missing shards alone.

    Parameters
    ----------
    parities : the parity shards to use, from 0, of which every set has all; as many data shards are missing
    sets : the shards of each set that are there, by index in the set; none is longer than `shard_bytes`
    """
    data, size = geometry.data, padded(len(sets) * shard_bytes)
    padding, missing_shard = bytes(size - len(sets) * shard_bytes), bytes(shard_bytes)
    parts: list[bytes] = []
    used = (*range(data), *(data + parity for parity in parities))
    for index in used:
        parts += [shards.get(index, missing_shard) for shards in sets]
        parts.append(padding)
    content = b"".join(parts)
    # Most datagrams are full, and need no padding.
    if len(content) < len(used) * size:
        full = [{at: one.ljust(shard_bytes, b"\0") for at, one in shards.items()} for shards in sets]
        yield from restored(geometry, parities, full, shard_bytes)
        return
    rows = np.frombuffer(content, np.uint8).reshape(-1, size)
    differences = combined(parity_matrix(*geometry)[list(parities)], rows[:data])
    differences ^= rows[data:]
    for at, shards in enumerate(sets):
        missing = tuple(index for index in range(data) if index not in shards)
        alone = [row[at * shard_bytes : (at + 1) * shard_bytes].tobytes() for row in differences]
        yield dict(zip(missing, _solved(_solution(geometry, missing, parities), alone), strict=True))


@lru_cache(maxsize=4096)
def _solution(geometry: Geometry, missing: tuple[int, ...], parities: tuple[int, ...]) -> list[list[int]]:
    """The matrix (m, m) that computes m missing data shards from their own m parity shards."""
    solution: list[list[int]] = inverted(parity_matrix(*geometry)[np.ix_(parities, missing)]).tolist()
    return solution


def _solved(matrix: list[list[int]], shards: list[bytes]) -> list[bytes]:
    """The product of a matrix (m, m) and m shards of one length."""
    if len(shards) == 1:
        return [shards[0].translate(_TABLES[matrix[0][0]])]
    found = []
    for factors in matrix:
        terms = [shard.translate(_TABLES[factor]) for factor, shard in zip(factors, shards, strict=True)]
        total = np.frombuffer(terms[0], np.uint8)
        for term in terms[1:]:
            total = total ^ np.frombuffer(term, np.uint8)
        found.append(total.tobytes())
    return found


def combined(matrix: Bytes, shards: Bytes) -> Bytes:
    """The product of a matrix (r, k) and shards (k, n), contiguous, n a multiple of `WORD_BYTES`."""
    if shards.shape[1] < _SHORT_BYTES:
        return _by_table(matrix, [shard.tobytes() for shard in shards])
    return _by_doubling(matrix.tobytes(), len(matrix), shards)


def _by_table(matrix: Bytes, rows: list[bytes]) -> Bytes:
    """`combined` with a table of products for each factor."""
    sums = np.zeros((len(matrix), len(rows[0]) // WORD_BYTES), np.uint64)
    for factors, row in zip(matrix.T.tolist(), rows, strict=True):
        for factor, total in zip(factors, sums, strict=True):
            if factor:
                product = row if factor == 1 else row.translate(_TABLES[factor])
                np.bitwise_xor(total, np.frombuffer(product, np.uint64), out=total)
    return sums.view(np.uint8)


def _by_doubling(factors: bytes, rows: int, shards: Bytes) -> Bytes:
    """`combined` by Horner's rule over the bits of the factors: for each bit, the sum is doubled, then the
    shards with that bit in their factor are added. All steps are wide XORs.

    Two shards share the sum of both: the 3 combinations of a pair serve all rows and bits.
    """
    words: NDArray[np.uint64] = shards.view(np.uint64)
    count, size = words.shape
    sums = np.empty((rows, size), np.uint64)
    program = _program(factors, rows)
    step = max(_LEAST_WORDS, _CACHE_BYTES // (WORD_BYTES * (count + count // 2 + 2 * rows)))
    for start in range(0, size, step):
        stop = min(start + step, size)
        terms = list(_terms(words[:, start:stop]))
        total = np.zeros((rows, stop - start), np.uint64)
        carry = np.empty_like(total)
        octets, signed, is_high = total.view(np.uint8), total.view(np.int8), carry.view(np.bool_)
        for bit, lists in enumerate(program):
            if bit:
                # Doubling: the highest bit of a byte leaves, and 0x1D is added for it.
                np.less(signed, 0, out=is_high)
                np.multiply(carry, _BYTES_OF_TWO, out=carry)
                np.add(octets, octets, out=octets)
                np.bitwise_xor(total, carry, out=total)
            for row, wanted in zip(total, lists, strict=True):
                for term in wanted:
                    np.bitwise_xor(row, terms[term], out=row)
        sums[:, start:stop] = total
    return sums.view(np.uint8)


def _terms(words: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    """Three terms per pair of shards: the first, the second, the sum of both."""
    for at in range(0, len(words), 2):
        pair = words[at : at + 2]
        yield from pair
        if len(pair) == 2:
            yield pair[0] ^ pair[1]


@lru_cache(maxsize=1024)
def _program(factors: bytes, rows: int) -> list[list[list[int]]]:
    """The terms that each row adds at each bit, from the highest bit down: [bit][row] -> indices."""
    matrix = np.frombuffer(factors, np.uint8).reshape(rows, -1)
    program = []
    for bit in range(7, -1, -1):
        has = (matrix >> bit & 1).tolist()
        program.append([[3 * at + choice for at, choice in _pairs(row) if choice >= 0] for row in has])
    return program


def _pairs(bits: list[int]) -> Iterator[tuple[int, int]]:
    """(pair, term of it) of a row of bits: 0 for the first shard alone, 1 for the second, 2 for both, -1 for
    none."""
    for at in range(0, len(bits), 2):
        pair = bits[at : at + 2]
        yield at // 2, {1: 0, 2: 1, 3: 2}.get(pair[0] + 2 * (pair[1] if len(pair) == 2 else 0), -1)
