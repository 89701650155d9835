"""UDP's settings in iperf3's parameters."""

from __future__ import annotations

import pytest

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import transport
from iperfpy.protocols.tcp import TcpSettings
from iperfpy.protocols.udp import UdpSettings, own

UDP = transport("udp")


def test_flags_that_iperf3_sends_as_numbers() -> None:
    settings = UdpSettings(window=4096, wide_counters=True, dont_fragment=True, repeating_payload=True)
    wire = {"window": 4096, "udp_counters_64bit": 1, "dont_fragment": 1, "repeating_payload": 1}
    assert settings.to_wire() == wire
    assert UDP.iperf3_parameters(settings, 1400) == wire
    assert UdpSettings.from_wire(wire) == settings
    assert UdpSettings.from_wire({**wire, "dont_fragment": 0}) == UdpSettings.from_wire(
        {key: value for key, value in wire.items() if key != "dont_fragment"}
    )


@pytest.mark.parametrize(("block_bytes", "run_bytes"), [(1400, 46 * 1400), (65_507, 65_507), (16, 4094 * 16)])
def test_gsro_is_sent_with_iperf3_3_21s_parameters(block_bytes: int, run_bytes: int) -> None:
    """The sender's buffer holds complete datagrams, the receiver's the longest datagram."""
    parameters = UDP.iperf3_parameters(UdpSettings(gsro=True), block_bytes)
    gso = {"gso": 1, "gso_dg_size": block_bytes, "gso_bf_size": run_bytes}
    assert parameters == {**gso, "gro": 1, "gro_bf_size": 65_507}


def test_settings_unknown_to_iperf3_are_not_in_its_parameters() -> None:
    settings = UdpSettings(no_rtt=True)
    assert UDP.iperf3_parameters(settings, 1400) == {}
    assert UdpSettings.from_wire(settings.to_wire()) == settings


def test_the_parameters_of_iperf3_3_21_are_read() -> None:
    off = {"gso": 0, "gso_dg_size": 0, "gso_bf_size": 65_507, "gro": 0, "gro_bf_size": 65_507}
    assert UdpSettings.from_wire({**off, "pacing_timer": 1000}) == UdpSettings()


@pytest.mark.parametrize("value", ["1", 2, None, [1]])
def test_an_invalid_flag_of_a_peer_is_refused(value: object) -> None:
    with pytest.raises(SettingsError):
        UdpSettings.from_wire({"udp_counters_64bit": value})


def test_the_header_follows_the_counters() -> None:
    assert (UdpSettings().header_bytes, UdpSettings(wide_counters=True).header_bytes) == (12, 16)
    with pytest.raises(SettingsError, match="UDP needs UdpSettings, not TcpSettings"):
        own(TcpSettings())
