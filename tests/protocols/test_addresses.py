"""Addresses in sentences."""

from __future__ import annotations

import pytest

from iperfpy.protocols.addresses import named
from iperfpy.protocols.contract import SocketAddress


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("192.0.2.1", 5201), "192.0.2.1 port 5201"),
        (("::ffff:192.0.2.1", 5201, 0, 0), "192.0.2.1 port 5201"),
        (("2001:db8::1", 5201, 0, 0), "2001:db8::1 port 5201"),
    ],
)
def test_a_sentence_has_the_plain_form_of_an_address(address: SocketAddress, text: str) -> None:
    assert named(address) == text
