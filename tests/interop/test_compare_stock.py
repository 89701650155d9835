"""A comparison against a stock iperf3 server: TCP and UDP in both directions, and the rest is named."""

from __future__ import annotations

import pytest

from iperfpy.comparison.choice import bulk_choice
from iperfpy.experiments.check_schedule import DIRECTIONS
from iperfpy.experiments.comparison_run import Compare, Progress
from iperfpy.experiments.contender import contenders_of
from iperfpy.options import ClientOptions
from iperfpy.report.compare_text import lines

pytestmark = pytest.mark.interop


async def test_a_stock_server_gives_tcp_and_udp(iperf3_server: int) -> None:
    run = Compare(
        ClientOptions("127.0.0.1", iperf3_server),
        contenders_of("tcp:cubic,kcp,udp:20M"),
        limit_s=12.0,
        seed=1,
    )

    def tell(event: Progress) -> None:
        if event.step is not None and event.step.round == 2:
            run.stop("one round is enough")

    await run.run(tell)
    report = run.report()
    assert run.error is None, report.error
    assert report.peer_is_iperfpy is False
    for way in DIRECTIONS:
        for name in ("tcp cubic", "udp 20M"):
            (test,) = report.of(name, way)
            assert test.steady_bits_per_second
    assert {(one.contender, one.direction, one.messages) for one in report.left_out} == {
        ("kcp", None, False),
        ("tcp cubic", None, True),
        ("udp 20M", None, True),
    }
    text = "\n".join("".join(piece for piece, _ in line) for line in lines(report))
    assert "a stock iperf3 server" in text
    assert "Left out: kcp (127.0.0.1 runs a stock iperf3 server, which cannot run kcp" in text
    assert "Left out: tcp cubic messages, udp 20M messages (127.0.0.1 runs a stock iperf3" in text
    assert bulk_choice(report).sentence.startswith("For bulk, only tcp cubic can be ranked: udp 20M")
