"""Set-up of every test."""

import gc
import os
import re
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# No test asserts how fast the machine is.
settings.register_profile("iperfpy", deadline=None)
settings.load_profile("iperfpy")

# Thousands of collected tests stay in memory. A collection of garbage at every 700 objects, the default, goes
# through them often for nothing; parsing the product takes twice as long with it.
gc.set_threshold(20_000, 10, 10)

# Ignored signals are inherited; nohup and a shell ignore some that the programs under test must receive.
for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep saved runs out of the tree; programs that a test starts inherit the folder. A test that chooses
    a folder of its own, or the current one, sets or deletes the variable with `monkeypatch`."""
    os.environ["IPERFPY_RESULTS"] = os.path.join(tmp_path_factory.getbasetemp(), "runs")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file whose every test `-m` leaves out: for `make check` that is a fifth of the files."""
    wanted: str = config.option.markexpr
    if collection_path.suffix != ".py" or not re.fullmatch(r"not \w+( and not \w+)*", wanted):
        return None
    marks = re.search(
        r"^pytestmark = (pytest\.mark\.\w+|\[[^]]*])", collection_path.read_text("utf-8"), re.MULTILINE
    )
    left_out = set(re.findall(r"not (\w+)", wanted))
    return True if marks and left_out.intersection(re.findall(r"mark\.(\w+)", marks[1])) else None


def pytest_collection_finish() -> None:
    """Take the collected tests, which stay until the end, out of the sight of the garbage collector."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first: at the end of the run they would leave processors idle."""
    slow, long = ({item.path for item in items if item.get_closest_marker(mark)} for mark in ("slow", "long"))
    items.sort(key=lambda item: (item.path not in slow, item.path not in long))
