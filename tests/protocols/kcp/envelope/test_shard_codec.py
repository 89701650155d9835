"""The codec against vectors of klauspost/reedsolomon, and against slow arithmetic of our own."""

from __future__ import annotations

import tracemalloc
from itertools import combinations

import numpy as np
import pytest

from iperfpy.protocols.kcp.envelope import shard_codec
from iperfpy.protocols.kcp.envelope.galois_field import (
    INVERSES,
    PRODUCTS,
    inverted,
    multiplied,
    parity_matrix,
)
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry, combined, encoded, restored
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
def test_products_are_those_of_the_table_in_any_steps(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long rows are worked on in steps of one length, of which the last may be shorter."""
    rng = np.random.default_rng(shape[0])
    matrix = rng.integers(0, 256, shape, np.uint8)
    matrix[0, 0] = 0
    monkeypatch.setattr(shard_codec, "_LEAST_BYTES", 64)
    for size, cache in ((1, 1), (1_000, 1), (1_009, 9_000), (20_000, 1 << 20)):
        monkeypatch.setattr(shard_codec, "_CACHE_BYTES", cache)
        # Rows of a wider array need not begin at the multiple of any size.
        shards = rng.integers(0, 256, (shape[1], size + 3), np.uint8)[:, 3:]
        assert (combined(matrix, shards) == multiplied(matrix, shards)).all()


def test_what_is_remembered_of_a_pattern_is_small() -> None:
    """A peer chooses the patterns of loss, and hundreds of them are remembered."""
    geometry, half = Geometry(128, 128), tuple(range(128))
    shards = np.zeros((256, shard_codec._MANY_SETS, 8), np.uint8)
    encoded(geometry, shards[:128, 0])
    tracemalloc.start()
    restored(geometry, half, [half] * len(shards[0]), shards)
    remembered_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert remembered_bytes < 1_500_000


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_any_shards_as_many_as_the_data_restore_the_rest(lost: int, *, alike: bool) -> None:
    """With every choice of parity; many sets that miss the same shards have a matrix of their own."""
    rng, geometry = np.random.default_rng(lost), Geometry(10, 3)
    every = list(combinations(range(10), lost))
    for parities in combinations(range(3), lost):
        for missing in [[one] * 5 for one in every] if alike else [every, [every[0]], [every[-1]] * 2]:
            data = rng.integers(0, 256, (10, len(missing), 37), np.uint8)
            parity = encoded(geometry, data.reshape(10, -1)).reshape(3, len(missing), 37)
            shards = np.concatenate([data, parity[list(parities)]])
            expected = np.empty((lost, len(missing), 37), np.uint8)
            for at, indices in enumerate(missing):
                expected[:, at] = data[list(indices), at]
                shards[list(indices), at] = 0
            assert (restored(geometry, parities, missing, shards) == expected).all()


def test_galois_agrees() -> None:
    galois = pytest.importorskip("galois", reason="galois is not installed: it needs numba, 100 MB")
    field = galois.GF(2**8, irreducible_poly=0x11D)
    shards = np.random.default_rng(1).integers(0, 256, (10, 64), np.uint8)
    vandermonde = field(np.arange(13, dtype=np.uint8))[:, None] ** np.arange(10)
    matrix = vandermonde @ np.linalg.inv(vandermonde[:10])
    assert (np.array(matrix[10:] @ field(shards)) == encoded(Geometry(10, 3), shards)).all()


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_galois_restores_the_same(lost: int) -> None:
    """Every pattern of lost shards of kcptun's default geometry, alone and beside others."""
    galois = pytest.importorskip("galois", reason="galois is not installed: it needs numba, 100 MB")
    field = galois.GF(2**8, irreducible_poly=0x11D)
    data = np.random.default_rng(lost).integers(0, 256, (10, 29), np.uint8)
    vandermonde = field(np.arange(13, dtype=np.uint8))[:, None] ** np.arange(10)
    matrix = vandermonde @ np.linalg.inv(vandermonde[:10])
    whole = np.array(matrix @ field(data))
    every = [(gaps, rest) for gaps in combinations(range(10), lost) for rest in combinations(range(3), lost)]
    for parities in {rest for _, rest in every}:
        patterns = [gaps for gaps, rest in every if rest == parities]
        used = [*range(10), *(10 + index for index in parities)]
        shards = np.repeat(whole[used][:, None], len(patterns), axis=1)
        for at, gaps in enumerate(patterns):
            present = [index for index in used if index not in gaps]
            known = field(whole[present])
            expected = np.array(np.linalg.inv(matrix[present]) @ known)[list(gaps)]
            shards[list(gaps), at] = 0
            for many in (1, 5):
                alone = np.repeat(shards[:, at : at + 1], many, axis=1)
                found = restored(Geometry(10, 3), parities, [gaps] * many, alone)
                assert (found == expected[:, None]).all()
        found = restored(Geometry(10, 3), parities, patterns, shards)
        for at, gaps in enumerate(patterns):
            assert (found[:, at] == whole[list(gaps)]).all()
