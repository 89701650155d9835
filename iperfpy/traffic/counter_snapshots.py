"""Snapshots of a channel's counters: at opening, now, and frozen at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from iperfpy.protocols.contract import Channel, Delivery
from iperfpy.protocols.metrics import Counters, Value


class CounterSnapshots:
    """The counters of one channel at three times.

    A receiver may get data before it learns that the test runs. That data belongs to the test, so samples
    start from the counters at opening. At the end the counters are frozen, so that all figures of the report
    are of one moment and add up.

    Attributes
    ----------
    opening : counters when the channel was opened. Payload and the counters of `delivery` are 0: a thread of
        the channel may have counted the first data before this end looked at it
    frozen : counters when `freeze` was called, None before
    seen_bytes : payload when the channel was last read, frozen or not
    """

    def __init__(self, channel: Channel, delivery: Delivery | None = None) -> None:
        self._channel = channel
        begin_at_zero = {"bytes"} if delivery is None else {"bytes", delivery.sent, *delivery.receiver_keys}
        self.opening: Counters = {
            key: 0 if key in begin_at_zero else value for key, value in channel.counters().items()
        }
        self.frozen: dict[str, Value] | None = None
        self.seen_bytes = 0

    def look(self) -> Mapping[str, Value]:
        """Read the channel, for `seen_bytes`. Returns the counters that reports show."""
        record = self.now()
        return record if self.frozen is None else self.frozen

    def now(self) -> dict[str, Value]:
        """The counters as they are, frozen or not."""
        record = self._channel.counters()
        self.seen_bytes = payload_bytes(record)
        return record

    def freeze(self) -> None:
        """Keep the counters as they are now."""
        self.frozen = self.now()

    def refresh(self, keys: Collection[str]) -> None:
        """Bring these frozen counters up to date."""
        if self.frozen is not None:
            self.frozen |= {key: value for key, value in self.now().items() if key in keys}

    def withhold(self, keys: Collection[str]) -> None:
        """Let these frozen counters be unknown."""
        if self.frozen is not None:
            self.frozen |= dict.fromkeys(keys)

    def counters(self) -> Mapping[str, Value]:
        """The counters that reports show: the frozen ones once there are any, else those of now."""
        return self.now() if self.frozen is None else self.frozen

    @property
    def held_bytes(self) -> int:
        """Payload that has arrived and waits for a missing part."""
        return self._channel.held_bytes()

    @property
    def payload_bytes(self) -> int:
        """Payload that reports show, since the channel was opened."""
        return payload_bytes(self.counters())

    @property
    def moved_bytes(self) -> int:
        """Payload until now, frozen or not."""
        return payload_bytes(self.now())

    @property
    def has_moved(self) -> bool:
        """True if payload has moved since the channel was opened."""
        return self.moved_bytes > payload_bytes(self.opening)


def payload_bytes(record: Counters) -> int:
    """The payload in a record of counters, 0 if it has none."""
    value = record.get("bytes")
    return int(value) if isinstance(value, (int, float)) else 0
