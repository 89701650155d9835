"""The codec against vectors of klauspost/reedsolomon, and against slow arithmetic of our own."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.kcp.envelope.galois_field import INVERSES, PRODUCTS, inverted, parity_matrix
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry, combined, encoded, padded, restored
from tests.protocols.kcp.envelope.slow_fec import interpolated, times


def test_products_and_inverses_are_those_of_the_field() -> None:
    assert PRODUCTS.tolist() == [[times(left, right) for right in range(256)] for left in range(256)]
    assert [times(value, int(INVERSES[value])) for value in range(1, 256)] == [1] * 255


def test_a_singular_matrix_has_no_inverse() -> None:
    with pytest.raises(ValueError, match="singular"):
        inverted(np.array([[1, 2], [1, 2]], np.uint8))


def test_the_matrices_are_those_of_klauspost() -> None:
    """kcptun's default geometry, and small ones."""
    assert parity_matrix(10, 3).tolist() == [
        [129, 150, 175, 184, 210, 196, 254, 232, 3, 2],
        [150, 129, 184, 175, 196, 210, 232, 254, 2, 3],
        [191, 214, 98, 10, 6, 111, 223, 183, 5, 4],
    ]
    assert parity_matrix(2, 1).tolist() == [[3, 2]]
    assert parity_matrix(1, 1).tolist() == [[1]]


def test_klauspost_encodes_one_set_so() -> None:
    """TestOneEncode of klauspost/reedsolomon."""
    data = np.zeros((5, 8), np.uint8)
    data[:, :2] = [[0, 1], [4, 5], [2, 3], [6, 7], [8, 9]]
    found = encoded(Geometry(5, 5), data)[:, :2].tolist()
    assert found == [[12, 13], [10, 11], [14, 15], [90, 91], [94, 95]]


@pytest.mark.parametrize(("data", "parity"), [(1, 1), (2, 5), (3, 1), (10, 3), (7, 12)])
def test_parity_is_a_polynomial_through_the_data(data: int, parity: int) -> None:
    shards = np.random.default_rng(data).integers(0, 256, (data, 16), np.uint8)
    known = {at: shard.tobytes() for at, shard in enumerate(shards)}
    expected = [interpolated(known, data + index) for index in range(parity)]
    assert [row.tobytes() for row in encoded(Geometry(data, parity), shards)] == expected


@pytest.mark.parametrize("shape", [(3, 10), (1, 1), (2, 5), (16, 33)])
def test_long_rows_and_short_ones_give_the_same_products(shape: tuple[int, int]) -> None:
    """Rows of more than 8 KiB are computed by doubling in steps, shorter ones by table."""
    rng = np.random.default_rng(shape[0])
    matrix = rng.integers(0, 256, shape, np.uint8)
    matrix[0, 0] = 0
    shards = rng.integers(0, 256, (shape[1], 50_000), np.uint8)
    short = [np.ascontiguousarray(piece) for piece in np.split(shards, 10, axis=1)]
    expected = np.concatenate([combined(matrix, piece) for piece in short], axis=1)
    assert (combined(matrix, shards) == expected).all()


@pytest.mark.parametrize("sets", [1, 40])
def test_any_shards_as_many_as_the_data_restore_the_rest(sets: int) -> None:
    rng, geometry, size = np.random.default_rng(sets), Geometry(10, 3), 301
    data = rng.integers(0, 256, (10, padded(sets * size)), np.uint8)
    parities = encoded(geometry, data)
    every = [
        {index: row[at * size : (at + 1) * size].tobytes() for index, row in enumerate((*data, *parities))}
        for at in range(sets)
    ]
    known = []
    for shards in every:
        lost = rng.choice(10, 2, replace=False)
        known.append({index: shard for index, shard in shards.items() if index not in lost})
    found = list(restored(geometry, (0, 2), known, size))
    for shards, before, after in zip(every, known, found, strict=True):
        assert before | after | shards == shards
        assert set(before) | set(after) == set(shards)


def test_galois_agrees() -> None:
    galois = pytest.importorskip("galois", reason="galois is not installed: it needs numba, 100 MB")
    field = galois.GF(2**8, irreducible_poly=0x11D)
    shards = np.random.default_rng(1).integers(0, 256, (10, 64), np.uint8)
    vandermonde = field(np.arange(13, dtype=np.uint8))[:, None] ** np.arange(10)
    matrix = vandermonde @ np.linalg.inv(vandermonde[:10])
    assert (np.array(matrix[10:] @ field(shards)) == encoded(Geometry(10, 3), shards)).all()
