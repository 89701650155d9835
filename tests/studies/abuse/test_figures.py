"""The verdict of the study of attacks, from made-up windows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.studies.abuse.figures import Row, Window

OFFERED = 50e6


def row(harm: int = 7, **during: Any) -> Row:
    quiet = {"tcp": OFFERED, "kcp-bbr": OFFERED}
    usual: dict[str, Any] = {"rates": quiet, "delays_s": [0.1, 0.2], "memory_mib": 70.0}
    return Row("attack", Window(quiet, [0.1], 60.0), Window(**usual | during), harm)


def test_an_attack_that_costs_little_holds() -> None:
    assert row().missed == ()
    assert row().verdict(OFFERED) == "holds"


@pytest.mark.parametrize(
    ("during", "missed"),
    [
        ({"rates": {"tcp": OFFERED, "kcp-bbr": 0.97 * OFFERED}}, "kcp-bbr lost 3.0%"),
        ({"rates": {"tcp": 0.0, "kcp-bbr": OFFERED}}, "tcp lost 100.0%"),
        ({"delays_s": [0.1, 1.2]}, "a newcomer waited 1.20 s"),
        ({"delays_s": []}, "a newcomer waited inf s"),
        ({"memory_mib": 125.0}, "65 MiB more"),
        ({"tracebacks": 2}, "2 tracebacks"),
    ],
)
def test_each_target_can_be_missed(during: dict[str, Any], missed: str) -> None:
    assert row(**during).missed == (missed,)
    assert row(**during).verdict(OFFERED) == "missed"
    assert row(harm=0, **during).verdict(OFFERED) == "missed"


def test_another_host_is_sent_no_more_than_came_in_its_name() -> None:
    reflecting = row()
    reflecting.reflected = True
    assert reflecting.missed == ("another host was sent more bytes than came in its name",)
    assert reflecting.verdict(OFFERED) == "missed"


def test_a_busy_machine_and_an_idle_attacker_are_no_measurement() -> None:
    assert row(harm=0).verdict(OFFERED) == "not measured"
    busy = row()
    busy.before.rates = {"tcp": OFFERED, "kcp-bbr": 0.9 * OFFERED}
    assert "kcp-bbr carried 45.0 Mb/s before the attack" in busy.why_not_measured(OFFERED)
    late = row(delays_s=[5.0])
    late.before.delays_s = [2.0]
    assert late.verdict(OFFERED) == "not measured"
