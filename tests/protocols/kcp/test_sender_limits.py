"""The time by limit of the sender, and the warning if the limit is KCP's own window."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.congestion_control import CongestionControl
from iperfpy.protocols.kcp import KcpBbr
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock, with_bbr
from iperfpy.protocols.kcp.engine_options import MAX_WINDOW
from iperfpy.protocols.kcp.kcp_metrics import ENVELOPE_METRICS, METRICS, congestion_record, record
from iperfpy.protocols.kcp.sender_limits import SenderLimit, SenderLimits
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.kcp.stream_warnings import window_warning
from iperfpy.protocols.simulator import Bulk, Paced, Path, Simulation, bdp_bytes
from iperfpy.protocols.simulator.application import Application
from tests.protocols.kcp.ends import Fixed, Half, batch, push
from tests.studies.paths.watched import MTU, single

SECOND = 1_000_000


def _run(sender: Engine, receiver: Engine, application: Application, path: Path) -> dict[SenderLimit, float]:
    """The share of three seconds for which each limit held."""
    simulation = Simulation(1)
    back = simulation.link(Path(delay_us=path.delay_us))
    simulation.flow(sender, receiver, simulation.link(path), back, application)
    simulation.run(3 * SECOND)
    held = sender.limits.until(3 * SECOND)
    assert sum(held.values()) == 3 * SECOND
    return {limit: us / (3 * SECOND) for limit, us in held.items()}


def test_time_is_charged_to_the_limit_noted_last() -> None:
    limits = SenderLimits()
    assert set(limits.until(77).values()) == {0}
    limits.note(SenderLimit.PACING, 1_000)
    limits.note(SenderLimit.SEND_WINDOW, 1_300)
    limits.note(SenderLimit.SEND_WINDOW, 1_350)
    held = limits.until(1_500)
    assert (held[SenderLimit.PACING], held[SenderLimit.SEND_WINDOW]) == (300, 200)
    assert sum(held.values()) == 500
    assert limits.current is SenderLimit.SEND_WINDOW
    assert limits.until(1_500) == held


def test_the_time_before_the_load_is_no_limit_of_it() -> None:
    limits = SenderLimits()
    limits.note(SenderLimit.APPLICATION, 1_000)
    limits.load_begins(5_000)
    limits.note(SenderLimit.PACING, 5_200)
    held = {limit: us for limit, us in limits.of_load(6_000).items() if us}
    assert held == {SenderLimit.APPLICATION: 200, SenderLimit.PACING: 800}
    assert limits.until(6_000)[SenderLimit.APPLICATION] == 4_200  # counters never fall


def test_every_limit_has_a_metric() -> None:
    assert {f"{limit.key}_limited_us" for limit in SenderLimit} <= {metric.key for metric in METRICS}


def test_a_record_has_every_counter_and_gauge_that_is_declared() -> None:
    """Ratios are computed from these keys; a missing one would only show as an empty column."""
    keys = set(record(Half(control=Fixed()).engine, SECOND))
    declared = {metric.key for metric in KcpBbr.metrics if not metric.numerator}
    assert declared <= keys
    assert {metric.numerator for metric in KcpBbr.metrics if metric.numerator} <= keys


def test_an_end_that_has_sent_nothing_does_not_count_what_it_received() -> None:
    half = Half(control=Fixed())
    half.engine.receive(batch(push(0, b"payload of the peer", ts=5)), SECOND)
    assert half.engine.receiving.bytes == 19
    assert record(half.engine, SECOND)["bytes"] == 0
    assert record(half.engine, SECOND, sends=False)["bytes"] == 19


PATH = Path(20e6, bdp_bytes(20e6, 100_000), 50_000)


def test_a_small_send_window_limits() -> None:
    settings = KcpSettings(sndwnd=32, rcvwnd=128)
    sender = stock(1, settings)
    assert _run(sender, stock(1, settings), Bulk(sender), PATH)[SenderLimit.SEND_WINDOW] > 0.99


def test_the_peers_window_limits() -> None:
    sender = stock(1, KcpSettings(sndwnd=128, rcvwnd=128))
    receiver = stock(1, KcpSettings(sndwnd=128, rcvwnd=32))
    assert _run(sender, receiver, Bulk(sender), PATH)[SenderLimit.RECEIVE_WINDOW] > 0.9


def test_the_application_limits() -> None:
    sender, receiver = (with_bbr(1, KcpBbrSettings()) for _ in range(2))
    assert _run(sender, receiver, Paced(sender, 1e6), PATH)[SenderLimit.APPLICATION] > 0.9


def test_the_application_limits_while_only_retransmissions_wait() -> None:
    """Stock KCP sends them again after a tick or more, whatever the window has room for."""
    sender, receiver = (stock(1, KcpSettings(push=True)) for _ in range(2))
    lossy = PATH.with_(loss=0.3)
    assert _run(sender, receiver, Paced(sender, 80_000, 100), lossy)[SenderLimit.APPLICATION] > 0.9


@pytest.mark.slow
def test_a_bulk_sender_is_limited_by_pacing() -> None:
    """A controller that knows the path waits for its pace, and now and then for its window."""
    sender, receiver = (with_bbr(1, KcpBbrSettings()) for _ in range(2))
    held = _run(sender, receiver, Bulk(sender), PATH)
    assert held[SenderLimit.PACING] + held[SenderLimit.CONGESTION_WINDOW] > 0.95
    assert held[SenderLimit.PACING] > 0.5


@pytest.mark.parametrize(("window", "says"), [(MAX_WINDOW, True), (MAX_WINDOW - 1, False)])
def test_a_warning_says_that_the_largest_window_limits(window: int, says: bool) -> None:
    control = Fixed(1 << 20)
    half = Half(control=control, send_window=window, receive_window=MAX_WINDOW)
    one = half.engine
    while size := one.writable():
        one.write(memoryview(bytes(size)), 0)
        one.transmit(0)
    assert one.sending.nxt == window
    assert window_warning(one, 0) == ()
    said = window_warning(one, SECOND)
    assert len(said) == says
    assert all(f"{MAX_WINDOW} segments" in sentence and "100 %" in sentence for sentence in said)


def test_no_warning_is_given_for_a_window_that_does_not_limit() -> None:
    half = Half(control=Fixed(1 << 20), send_window=MAX_WINDOW, receive_window=MAX_WINDOW)
    half.send(100, 0)
    assert window_warning(half.engine, SECOND) == ()


def test_the_congestion_state_is_reported_in_full() -> None:
    """Every metric of the controller has a value once losses taught it a bound; none before."""
    first: CongestionControl | None = with_bbr(1, KcpBbrSettings()).control
    assert first is not None
    assert congestion_record(first.state(), 8 * MTU)["inflight_bound_bytes"] is None
    shallow = Path(10e6, bdp_bytes(10e6, 40_000, 0.2), 20_000)  # seven datagrams
    watched = single(shallow, Path(delay_us=20_000), seed=1, seconds=4)
    assert watched.sender.control is not None
    record = congestion_record(watched.sender.control.state(), 8 * MTU)
    own = {metric.key for metric in KcpBbr.metrics} - {metric.key for metric in (*METRICS, *ENVELOPE_METRICS)}
    assert own == set(record)
    bound, bandwidth = record["inflight_bound_bytes"], record["bandwidth_bits_per_second"]
    assert isinstance(bound, float)
    assert isinstance(bandwidth, float)
    assert 0.5 < bound / bdp_bytes(10e6, 40_000) < 3
    assert bandwidth == pytest.approx(10e6, rel=0.1)
