"""struct tcp_info of several kernel versions."""

from __future__ import annotations

import socket
import struct
import sys

import pytest

from iperfpy.protocols import tcp_info
from iperfpy.protocols.operating_system import ABSENT

FULL = bytes(range(256))


def word(offset: int, size: int) -> int:
    return int.from_bytes(FULL[offset : offset + size], sys.byteorder)


def test_fields_are_read_at_the_offsets_of_the_header() -> None:
    """Offsets from include/uapi/linux/tcp.h, counted by hand."""
    parsed = tcp_info.parse(FULL)
    assert parsed.state == 0
    assert parsed.rtt_us == word(68, 4)
    assert parsed.total_retrans == word(100, 4)
    assert parsed.delivery_rate == word(160, 8)
    assert parsed.bytes_retrans == word(208, 8)
    assert parsed.snd_wnd == word(228, 4)


@pytest.mark.parametrize(
    ("length", "known", "unknown"),
    [
        (104, "total_retrans", "notsent_bytes"),  # Linux 2.6 to 4.0
        (148, "notsent_bytes", "min_rtt_us"),  # 4.6
        (160, "data_segs_out", "delivery_rate"),  # 4.8
        (192, "sndbuf_limited_us", "bytes_sent"),  # 4.10
        (224, "reord_seen", "snd_wnd"),  # 4.19
        (230, "rcv_ooopack", "snd_wnd"),  # cut in the middle of a field
    ],
)
def test_fields_that_an_older_kernel_lacks_are_none(length: int, known: str, unknown: str) -> None:
    parsed = tcp_info.parse(FULL[:length])
    assert getattr(parsed, known) is not None
    assert getattr(parsed, unknown) is None


def test_an_empty_structure_gives_none_and_not_zero() -> None:
    parsed = tcp_info.parse(b"")
    assert parsed == tcp_info.TcpInfo()
    assert parsed.cwnd_bytes is None
    assert parsed.first_sent_bytes is None
    assert parsed.queue_us is None


def test_an_rtt_without_a_sample_is_none() -> None:
    raw = bytearray(232)
    struct.pack_into("=I", raw, 148, 0xFFFF_FFFF)
    parsed = tcp_info.parse(bytes(raw))
    assert parsed.min_rtt_us is None
    assert parsed.rtt_us is None
    assert parsed.total_retrans == 0


def test_figures_are_derived_from_the_fields() -> None:
    figures = tcp_info.TcpInfo(
        snd_cwnd=10,
        snd_mss=1448,
        bytes_sent=5000,
        bytes_retrans=1200,
        notsent_bytes=1_000_000,
        delivery_rate=2_000_000,
    )
    assert figures.cwnd_bytes == 14_480
    assert figures.first_sent_bytes == 3800
    assert figures.queue_us == 500_000
    assert tcp_info.TcpInfo(notsent_bytes=5, delivery_rate=0).queue_us is None


def test_other_systems_give_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_info, "TCP_INFO", ABSENT)
    with socket.socket() as sock:
        assert tcp_info.read(sock) == tcp_info.TcpInfo()


@pytest.mark.live
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_INFO is Linux's here")
def test_this_kernel_fills_the_structure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
            client.sendall(b"x" * 10_000)
            assert len(server.recv(10_000, socket.MSG_WAITALL)) == 10_000
            info = tcp_info.read(client)
        assert info.state == 1  # TCP_ESTABLISHED
        assert info.first_sent_bytes == 10_000
        assert info.rtt_us is not None
        assert info.pmtu is not None
