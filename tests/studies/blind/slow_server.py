"""Run iperfpy with a slower processor: each call of a function costs the given time.

python -m tests.studies.blind.slow_server 30 -s      # 30 us a call
"""

from __future__ import annotations

import sys
import threading
from time import perf_counter_ns
from types import FrameType
from typing import Any


def slow_down(call_us: float) -> None:
    """Spend processor time in each call of a Python function, in every thread."""
    cost_ns = int(call_us * 1_000)

    def spend(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            until = perf_counter_ns() + cost_ns
            while perf_counter_ns() < until:
                pass

    threading.setprofile(spend)
    sys.setprofile(spend)


def main() -> None:
    from iperfpy.cli.main import main as program

    call_us = float(sys.argv.pop(1))
    slow_down(call_us)
    sys.exit(program())


if __name__ == "__main__":
    main()
