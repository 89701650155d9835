"""`iperfpy diagnose` with tiny tests at a low rate."""

from __future__ import annotations

from iperfpy.cli.main import main as program
from iperfpy.experiments import check_schedule, serial_tests
from iperfpy.experiments.check_schedule import Scale
from tests.live.limited_rate import watch_limited

TINY = Scale(
    total=60,
    total_long=60,
    idle=0.3,
    rung=0.15,
    least_rung=0.1,
    bulk=0.25,
    least_bulk=0.15,
    most_further=0,
    pause=0.0,
    quick=True,
)
"""So much time that the lengths do not depend on it, nor on a busy machine."""


def main() -> int:
    """Be the program with the option --quick."""
    check_schedule.QUICK = TINY
    vars(serial_tests)["watch"] = watch_limited
    return program()
