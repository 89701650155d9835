"""Failures of single tests of an experiment; the server knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iperfpy.experiments import serial_tests
from iperfpy.options import ClientOptions
from iperfpy.plan import Plan


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[Plan], BaseException | None]) -> list[Plan]:
    """Make the tests fail for which `fails` gives an error; returns the plans of all attempts."""
    plans: list[Plan] = []
    watch: Callable[[ClientOptions, Plan], Any] = vars(serial_tests)["watch"]  # maybe a test's own already

    def watched(options: ClientOptions, plan: Plan) -> Any:
        plans.append(plan)
        error = fails(plan)
        test = watch(options, plan)
        if error is not None:

            async def fail(*_: object) -> None:
                raise error

            monkeypatch.setattr(test, "_measure", fail)
            test._arrivals.put_nowait(None)
        return test

    monkeypatch.setattr(serial_tests, "watch", watched)
    return plans
