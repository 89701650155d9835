"""Arithmetic in GF(2^8) with the polynomial 0x11D, and the matrices of klauspost/reedsolomon over it.

Addition is XOR. All elements are integers of 0 to 255, or uint8 arrays of them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from iperfpy.protocols.kcp.wire import Bytes

POLYNOMIAL = 0x11D


def _tables() -> tuple[Bytes, Bytes]:
    """Products (256, 256), and inverses (256,); the inverse of 0 is 0."""
    powers = [1]
    while len(powers) < 255:
        doubled = powers[-1] << 1
        powers.append(doubled ^ POLYNOMIAL if doubled > 255 else doubled)
    exponent = np.array(powers, np.uint8)
    logarithm = np.zeros(256, np.int64)
    logarithm[exponent] = np.arange(255)
    products = exponent[(logarithm[:, None] + logarithm[None, :]) % 255]
    products[0] = products[:, 0] = 0
    inverses = exponent[-logarithm % 255]
    inverses[0] = 0
    return products, inverses


PRODUCTS, INVERSES = _tables()


def multiplied(left: Bytes, right: Bytes) -> Bytes:
    """The product of matrices of shapes (r, k) and (k, n)."""
    product: Bytes = np.bitwise_xor.reduce(PRODUCTS[left[:, :, None], right[None, :, :]], axis=1)
    return product


def inverted(matrix: Bytes) -> Bytes:
    """The inverse of a square matrix, by Gauss-Jordan elimination.

    Raises
    ------
    ValueError
        When the matrix is singular.
    """
    size = len(matrix)
    work = np.concatenate([matrix, np.eye(size, dtype=np.uint8)], axis=1)
    for column in range(size):
        candidates = np.flatnonzero(work[column:, column])
        if not len(candidates):
            raise ValueError("the matrix is singular")
        pivot = column + int(candidates[0])
        work[[column, pivot]] = work[[pivot, column]]
        work[column] = PRODUCTS[INVERSES[work[column, column]], work[column]]
        factors = work[:, column].copy()
        factors[column] = 0
        work ^= PRODUCTS[factors[:, None], work[column][None, :]]
    return work[:, size:]


@lru_cache(maxsize=64)
def parity_matrix(data: int, parity: int) -> Bytes:
    """The matrix (parity, data) by which klauspost/reedsolomon computes parity shards from data shards.

    It is the lower part of V x inverse(top of V), where V has r^c in row r and column c (0^0 is 1).
    """
    vandermonde = np.ones((data + parity, data), np.uint8)
    for column in range(1, data):
        vandermonde[:, column] = PRODUCTS[vandermonde[:, column - 1], np.arange(data + parity)]
    return multiplied(vandermonde[data:], inverted(vandermonde[:data]))
