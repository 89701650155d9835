"""Set-up of every test."""

import signal

import pytest
from hypothesis import settings

# No test asserts how fast the machine is.
settings.register_profile("iperfpy", deadline=None)
settings.load_profile("iperfpy")

# Ignored signals are inherited; nohup and a shell ignore some that the programs under test must receive.
for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with slow tests first: at the end of the run they would leave processors idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
