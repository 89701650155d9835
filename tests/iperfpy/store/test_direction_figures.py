"""Results read from documents: ours, those of iperf3, and damaged ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from iperfpy.errors import DocumentError
from iperfpy.plan import Direction
from iperfpy.store.difference import ChangeVerdict, differences
from iperfpy.store.direction_figures import about_test, directions_of
from iperfpy.store.run_samples import samples_of
from tests.iperfpy.report.scenes import SCENES
from tests.iperfpy.store.test_round_trip import run_of

IPERF3: dict[str, Any] = {
    "start": {
        "connected": [
            {
                "socket": 5,
                "local_host": "10.0.0.2",
                "local_port": 1,
                "remote_host": "10.0.0.1",
                "remote_port": 2,
            }
        ],
        "version": "iperf 3.12",
        "system_info": "Linux",
        "timestamp": {"time": "Sun, 29 Nov 2026 15:26:57 GMT", "timesecs": 1795966017},
        "connecting_to": {"host": "vpn.example", "port": 5201},
        "cookie": "x" * 36,
        "tcp_mss_default": 1448,
        "test_start": {"protocol": "TCP", "num_streams": 1, "duration": 3, "reverse": 0},
    },
    "intervals": [
        {"streams": [], "sum": {"seconds": length, "bits_per_second": rate, "omitted": omitted}}
        for length, rate, omitted in (
            (1, 9e6, True),
            (1, 10e6, False),
            (1.01, 12e6, False),
            (0.02, 1e3, False),
        )
    ],
    "end": {
        "streams": [{"sender": {"mean_rtt": 40_000, "sender": True}, "receiver": {"sender": True}}],
        "sum_sent": {"bytes": 1448 * 990, "bits_per_second": 11.2e6, "retransmits": 10, "sender": True},
        "sum_received": {"bytes": 1, "bits_per_second": 11e6, "sender": True},
        "sender_tcp_congestion": "cubic",
    },
}


def test_a_document_of_iperf3() -> None:
    (one,) = directions_of(IPERF3)
    assert (one.transport, one.direction) == ("tcp cubic", Direction.FORWARD)
    assert (one.bits_per_second, one.rtt_us) == (11e6, 40_000)
    assert one.resent_percent == pytest.approx(1)
    assert one.loss_percent is None
    assert (one.series, one.interval_s) == ((10e6, 12e6), 1)


def test_an_interval_without_a_length_has_no_rate() -> None:
    document = copy.deepcopy(IPERF3)
    for interval in document["intervals"][1:]:
        interval["sum"]["seconds"] = 0
    (one,) = directions_of(document)
    assert one.series == ()
    samples = samples_of(document)
    (group,) = differences(samples, samples, None).groups
    assert all(figure.verdict is ChangeVerdict.UNKNOWN for figure in group.figures)


def test_the_facts_of_a_document_of_iperf3() -> None:
    about = about_test(IPERF3)
    assert about.kind == "test"
    assert about.unix_time == 1795966017
    assert about.hosts == ("10.0.0.2", "vpn.example")
    assert about.path == "10.0.0.2>10.0.0.1 mss1448"
    assert (about.summary, about.version) == ("11.0 Mbit/s", "iperf 3.12")
    assert about.headline == {
        "bits_per_second": 11e6,
        "rtt_us": 40_000,
        "resent_percent": pytest.approx(1),
    }


def test_datagrams_of_iperf3_have_a_loss_and_no_retransmissions() -> None:
    document = copy.deepcopy(IPERF3)
    document["start"]["test_start"] |= {"protocol": "UDP", "reverse": 1}
    document["end"] = {
        "streams": [],
        "sum": {"bits_per_second": 5e6, "lost_percent": 2.5},
        "sum_received": {"bits_per_second": 0},
    }
    (one,) = directions_of(document)
    assert (one.transport, one.direction, one.bits_per_second) == ("udp", Direction.REVERSE, 5e6)
    assert (one.loss_percent, one.resent_percent, one.rtt_us) == (2.5, None, None)


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_gives_the_figures_of_its_run(name: str) -> None:
    run = run_of(SCENES[name]())
    found = directions_of(run.document())
    assert [one.direction for one in found] == [row.direction for row in run.sums]
    for one in found:
        assert one.bits_per_second == pytest.approx(run.total("bits_per_second", direction=one.direction))
    assert about_test(run.document()).error == run.document().get("error", "")


def test_a_test_that_failed_before_its_start_has_no_figures() -> None:
    document = {"start": {"version": "iperfpy 1", "connected": []}, "intervals": [], "end": {}, "error": "x"}
    assert directions_of(document) == ()
    about = about_test(document)
    assert (about.transports, about.directions, about.unix_time, about.error) == ((), (), 0, "x")


@pytest.mark.parametrize("document", [{}, {"start": []}, {"start": {"version": 1}}])
def test_another_document_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="not the document of a test"):
        directions_of(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("start", "test_start"), 1),
        (("start", "test_start", "protocol"), []),
        (("start", "direction"), "sideways"),
        (("intervals",), {}),
        (("intervals", 1, "sum", "bits_per_second"), "fast"),
        (("end", "streams"), 7),
        (("end", "sum_received", "bits_per_second"), "fast"),
    ],
)
def test_a_damaged_document_is_refused(path: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(IPERF3)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(DocumentError, match="cannot be read"):
        directions_of(document)
