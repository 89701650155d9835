"""Our engine against kcp-go over loopback, as client and as server, with forward error correction and
encryption. `python -m tests.studies.envelope` runs the whole table."""

from __future__ import annotations

import pytest

from tests.interop.conftest import peer
from tests.interop.envelope_exchange import Case, run
from tests.studies.speed.programs import GO_LIBRARY

pytestmark = [pytest.mark.interop, pytest.mark.live]

CASES = (
    Case("kcp-go", sends=True, fec="10:3", loss=0.02),
    Case("kcp-go", sends=False, fec="10:3", loss=0.02),
    Case("kcp-go", sends=True, crypt="aes", fec="4:2", loss=0.02, recovery="stock"),
    Case("kcp-go", sends=False, crypt="aes", fec="10:3", loss=0.02, recovery="stock"),
    Case("kcp-go", sends=True, fec="auto", loss=0.02),
    Case("kcp-go", sends=False, fec="4:2", loss=0.02, peer_fec="10:3"),
    Case("kcp-go", sends=True, crypt="xor"),
    Case("kcp-go", sends=False, crypt="salsa20"),
)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.crypt}-{case.fec}-{case.peer_fec}-{case.sends}"
)
def test_kcp_go_exchanges_data_in_an_envelope(case: Case) -> None:
    """Some is lost on the way: both ends restore it, and neither notices."""
    peer("go")
    if not GO_LIBRARY.is_dir():
        pytest.skip("the library kcp-go is not installed")
    outcome = run(case)
    assert outcome.exact
    assert outcome.rejected == 0
    if case.loss and case.sends:
        assert outcome.theirs
    elif case.loss:
        assert outcome.recovered
