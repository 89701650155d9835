"""The counters of a channel, as they were at the moments that count."""

from __future__ import annotations

from collections.abc import Collection

from iperfpy.protocols.contract import Channel
from iperfpy.protocols.metrics import Counters, Value


class CounterSnapshots:
    """A channel's counters, of three times.

    The first record is the one taken when the channel was opened: what arrived between that and the moment
    when this end noticed that the test runs is part of it. Once frozen, the record stays as it is, so that
    everything read from it adds up.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._opening: dict[str, Value] | None = channel.counters()
        self._frozen: dict[str, Value] | None = None

    def freeze(self) -> None:
        """Remember the counters as they are now."""
        self._frozen = self._channel.counters()

    def count_again(self, keys: Collection[str]) -> None:
        """These counters of the frozen record, as they are now."""
        if self._frozen is not None:
            self._frozen |= {key: value for key, value in self._channel.counters().items() if key in keys}

    def counters(self) -> dict[str, Value]:
        """The record of the opening, then that of now, then the frozen one."""
        opening, self._opening = self._opening, None
        return opening or self._frozen or self._channel.counters()

    @property
    def bytes(self) -> int:
        """Payload since the channel was opened."""
        return _bytes_of(self.counters())

    @property
    def moved(self) -> int:
        """The same, now, whether frozen or not."""
        return _bytes_of(self._channel.counters())

    @property
    def stirs(self) -> bool:
        """Whether any payload has come since the opening; to be asked before the first `counters`."""
        return self.moved > _bytes_of(self._opening or {})


def _bytes_of(record: Counters) -> int:
    value = record.get("bytes")
    return int(value) if isinstance(value, (int, float)) else 0
