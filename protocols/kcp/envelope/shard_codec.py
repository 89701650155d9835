"""Reed-Solomon coding of shards: whole batches of sets at once.

A *set* has `data` shards, and `parity` shards computed from them; any `data` of all restore the others. The
same-index shards of many sets lie side by side in one row, so that a row is long, and one numpy call covers
all sets.

Restoring takes the parity of the data that is there, computed as for `encoded`. Its difference from the
parity that arrived is the parity of the missing shards alone, which a small matrix solves for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from iperfpy.protocols.kcp.envelope.galois_field import (
    POLYNOMIAL,
    PRODUCTS,
    inverted,
    multiplied,
    parity_matrix,
)
from iperfpy.protocols.kcp.wire import Bytes

MOST_SHARDS = 256
"""Most shards of a set: the field has 256 elements."""

_CACHE_BYTES = 1 << 20
"""Bytes that a step works on: about the second-level cache of one core."""
_LEAST_BYTES = 4_096
"""Shortest step: the cost of a numpy call is that of 10 kB."""
_MANY_SETS = 4
"""Sets with the same shards missing that are worth a matrix of their own."""
_PATTERNS = 300
"""Patterns of loss whose matrices are remembered: all of 10:3, and 0.3 GB if sets are the largest."""
_FACTOR_BYTES, _SOLUTION_BYTES = 2_000, 1_300
"""Work for each factor of a matrix that compares, or solves, in bytes that take as long to open: to compute
it, and the call that uses it."""
# Arrays, because numpy converts a scalar in each call, which costs half of a short call.
_ZERO, _DOUBLED_TOP_BIT = np.array(0, np.int8), np.array(POLYNOMIAL & 0xFF, np.uint8)
_TABLES = tuple(row.tobytes() for row in PRODUCTS)

_Program = tuple[list[tuple[int, int]], list[list[tuple[int, tuple[int, ...]]]]]


class Geometry(NamedTuple):
    """Data and parity shards of a set."""

    data: int
    parity: int

    @property
    def shards(self) -> int:
        """Shards of a set."""
        return self.data + self.parity


def encoded(geometry: Geometry, shards: Bytes) -> Bytes:
    """The parity shards (parity, n) of data shards (data, n)."""
    return combined(parity_matrix(*geometry), shards)


def restored(
    geometry: Geometry, parities: tuple[int, ...], missing: Sequence[tuple[int, ...]], shards: Bytes
) -> Bytes:
    """The missing data shards of sets, (m, sets, size) in ascending order.

    Parameters
    ----------
    parities : the m parity shards to use, from 0
    missing : the m missing data shards of each set, ascending
    shards : uint8 (data + m, sets, size), contiguous: the data shards, of which missing ones are zero, then
        the parity shards
    """
    rows = shards.reshape(len(shards), -1)
    if len(missing) >= _MANY_SETS and len(set(missing)) == 1:
        # One matrix for all sets, from the shards to the solution, spares the second step.
        return combined(_solving(geometry, parities, missing[0]), rows).reshape(-1, *shards.shape[1:])
    found = combined(_comparing(geometry, parities), rows).reshape(-1, *shards.shape[1:])
    for at, indices in enumerate(missing):
        _solve(_solution(geometry, parities, indices).tolist(), found[:, at])
    return found


def restoring_bytes(geometry: Geometry, missing: int, size: int, sets: int) -> int:
    """The work of `restored` for sets that miss so many shards of `size` each, in bytes that take as long to
    open: 1.5 ns each. Matrices are counted as if none were remembered, as it is with most large sets."""
    factors, solution = missing * (geometry.data + missing), missing**2
    return factors * (_FACTOR_BYTES + sets * size // 4) + sets * solution * (_SOLUTION_BYTES + size // 2)


@lru_cache(maxsize=_PATTERNS)
def _comparing(geometry: Geometry, parities: tuple[int, ...]) -> Bytes:
    """The matrix (m, data + m) from data and m parity shards to the difference of the parity shards and those
    of the data."""
    rows = parity_matrix(*geometry)[list(parities)]
    return np.concatenate([rows, np.eye(len(rows), dtype=np.uint8)], axis=1)


@lru_cache(maxsize=4096)
def _solution(geometry: Geometry, parities: tuple[int, ...], missing: tuple[int, ...]) -> Bytes:
    """The matrix (m, m) that computes m missing data shards from their own m parity shards."""
    return inverted(parity_matrix(*geometry)[np.ix_(parities, missing)]).copy()


@lru_cache(maxsize=_PATTERNS)
def _solving(geometry: Geometry, parities: tuple[int, ...], missing: tuple[int, ...]) -> Bytes:
    """The matrix (m, data + m) from data and m parity shards to m missing data shards."""
    matrix = multiplied(_solution(geometry, parities, missing), _comparing(geometry, parities))
    matrix[:, list(missing)] = 0
    return matrix


def _solve(matrix: list[list[int]], shards: Bytes) -> None:
    """Replace shards (m, size) by the product of a matrix (m, m) and them, by table: they are short."""
    content = [shard.tobytes() for shard in shards]
    for shard, factors in zip(shards, matrix, strict=True):
        shard[:] = np.frombuffer(content[0].translate(_TABLES[factors[0]]), np.uint8)
        for factor, term in zip(factors[1:], content[1:], strict=True):
            shard ^= np.frombuffer(term.translate(_TABLES[factor]), np.uint8)


def combined(matrix: Bytes, shards: Bytes) -> Bytes:
    """The product of a matrix (r, k) and shards (k, n), by Horner's rule over the bits of the factors.

    For each bit, the sums are doubled, then the shards with that bit in their factor are added. All steps are
    wide XORs. A pair of shards that several rows and bits add together is added once.
    """
    count, size = shards.shape
    pairs, program = _program(matrix.tobytes(), len(matrix))
    sums = np.zeros((len(matrix), size), np.uint8)
    longest = max(_LEAST_BYTES, _CACHE_BYTES // (count + len(pairs) + 2 * len(matrix)))
    step = -(-size // -(-size // longest))  # steps of one length, because a short one is no cheaper
    add = np.bitwise_xor
    for start in range(0, size, step):
        total = sums[:, start : start + step]
        terms = list(shards[:, start : start + step])
        terms += [terms[one] ^ terms[other] for one, other in pairs]
        carry, rows = np.empty(total.shape, np.uint8), list(total)
        signed, is_high = total.view(np.int8), carry.view(np.bool_)
        for bit, additions in enumerate(program):
            if bit:
                # Doubling: the highest bit of a byte leaves, and a constant is added for it.
                np.less(signed, _ZERO, is_high)
                np.multiply(carry, _DOUBLED_TOP_BIT, carry)
                np.add(total, total, total)
                add(total, carry, total)
            for at, wanted in additions:
                row = rows[at]
                for term in wanted:
                    add(row, terms[term], row)
    return sums


@lru_cache(maxsize=_PATTERNS)
def _program(factors: bytes, rows: int) -> _Program:
    """The steps of `combined` for a matrix (rows, k).

    Returns the pairs of shards to add first, which are the terms from k on, and for each bit, from the
    highest of any factor down, (row, terms to add).
    """
    matrix = np.frombuffer(factors, np.uint8).reshape(rows, -1)
    count = matrix.shape[1]
    pairs: dict[tuple[int, int], int] = {}
    program = []
    for bit in range(int(matrix.max()).bit_length() - 1, -1, -1):
        additions = []
        for row, has in enumerate((matrix >> bit & 1).tolist()):
            terms = list[int]()
            for at in range(0, count, 2):
                wanted = [index for index in range(at, min(at + 2, count)) if has[index]]
                if len(wanted) == 2:
                    wanted = [pairs.setdefault((at, at + 1), count + len(pairs))]
                terms += wanted
            additions.append((row, tuple(terms)))
        program.append(additions)
    return list(pairs), program
