"""The four senders that run beside each other on every path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock
from iperfpy.protocols.kcp.settings import KcpSettings
from tests.studies.paths.ablation import MECHANISMS, Patch
from tests.studies.paths.run import cubic_engine
from tests.studies.paths.watched import bbr_engine


def kcp_engine(number: int) -> Engine:
    """Make an engine of the transport `kcp` with the settings that users get without options."""
    return stock(number, KcpSettings())


CONTENDERS: dict[str, Callable[[int], Engine]] = {
    "kcp-bbr": bbr_engine,
    "draft": bbr_engine,
    "cubic": cubic_engine,
    "kcp": kcp_engine,
}
"""Name -> maker of both ends. `draft` is kcp-bbr without its own mechanisms, see `plain_draft`."""


@contextmanager
def plain_draft() -> Iterator[None]:
    """Switch all mechanisms of BBR beyond the draft off at once."""
    patch = Patch()
    try:
        for mechanism in MECHANISMS.values():
            mechanism.switch_off(patch)
        yield
    finally:
        patch.restore()
