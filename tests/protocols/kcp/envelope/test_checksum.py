"""The checksum of kcp-go's header, with and without the library of the extra."""

from __future__ import annotations

import importlib.util
import sys
import zlib

import numpy as np
import pytest

from iperfpy.protocols.kcp.envelope import crypt_layers
from iperfpy.protocols.kcp.envelope.crypt_names import CHECKSUM_BYTES
from iperfpy.protocols.kcp.envelope.layer import SlicedRows


@pytest.mark.parametrize("width", [CHECKSUM_BYTES, 61, 64])
def test_the_checksum_is_that_of_zlib(width: int) -> None:
    slots, (contents,) = SlicedRows().take(5, 64, slice(CHECKSUM_BYTES, width))
    slots[:] = np.random.default_rng(1).integers(0, 256, slots.shape, np.uint8)
    expected = [zlib.crc32(row[CHECKSUM_BYTES:width].tobytes()) for row in slots]
    assert crypt_layers._checksums(contents).tolist() == expected


def test_without_the_library_zlib_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    spec = importlib.util.find_spec(crypt_layers.__name__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    assert copy.crc32 is zlib.crc32
