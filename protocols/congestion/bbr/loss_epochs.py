"""The offered load and the queue that each transmission met, and the losses per offered load.

Every transmission belongs to an epoch, according to the offered load of the phase in which it left. Losses
are detected a round trip later or more, when the phase may be another one, so the changes of load and of the
queue are logged with their times, and a transmission is looked up by its time of departure.

Phases of the same load within half a second share an epoch, since a phase on a path of microseconds is too
short for a loss rate. Transmissions that met a queue are not counted at all: they may have been lost because
the queue was full.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from iperfpy.protocols.congestion.bbr.loss_tally import LossTally
from iperfpy.protocols.congestion.bbr.phases import OfferedLoad

# not in the draft; chosen by simulation

EPOCH_US = 500_000
"""Phases of the same load that begin within this time of an epoch's start belong to that epoch."""
MAX_LOAD_CHANGES = 16
"""Changes of load in the log. Transmissions older than all of them count for the oldest."""
MAX_QUEUE_CHANGES = 1_024
"""Changes of the queue in the log. At the first sign of a queue it may change with every second ACK, and the
losses of that time are detected up to a round trip later."""

_T = TypeVar("_T")


class Epoch(LossTally):
    """The transmissions of one period at one offered load.

    Parameters
    ----------
    offered_load : load of the path during the epoch
    started_us : begin of the epoch
    """

    __slots__ = ("offered_load", "started_us")

    def __init__(self, offered_load: OfferedLoad, started_us: int, sent: int = 0, lost: int = 0) -> None:
        super().__init__(sent, lost)
        self.offered_load, self.started_us = offered_load, started_us


def _entry_at(log: deque[tuple[int, _T]], time_us: int) -> _T:
    """Return the log's entry that was valid at `time_us`; the oldest one for times before the log."""
    for since_us, entry in reversed(log):
        if since_us <= time_us:
            return entry
    return log[0][1]


class LossEpochs:
    """The log of offered loads and queues, and the epochs of the last seconds."""

    def __init__(self) -> None:
        self._loads: deque[tuple[int, Epoch]] = deque(maxlen=MAX_LOAD_CHANGES)
        self._loads.append((0, Epoch(OfferedLoad.UNKNOWN, 0)))
        self._queues: deque[tuple[int, bool]] = deque([(0, False)], MAX_QUEUE_CHANGES)
        self._newest_us = 0  # time of departure of the newest delivered transmission
        self._epochs: dict[OfferedLoad, deque[Epoch]] = {load: deque() for load in OfferedLoad}

    def __len__(self) -> int:
        """Number of epochs and log entries kept."""
        return sum(len(epochs) for epochs in self._epochs.values()) + len(self._loads)

    @property
    def offered_load(self) -> OfferedLoad:
        """The current load."""
        return self._loads[-1][1].offered_load

    def at_load(self, load: OfferedLoad) -> deque[Epoch]:
        """The epochs of this load, oldest first."""
        return self._epochs[load]

    def change_load(self, load: OfferedLoad, now_us: int) -> None:
        """Count the transmissions from now on for this load."""
        epochs = self._epochs[load]
        if not epochs or epochs[-1].started_us < now_us - EPOCH_US:
            epochs.append(Epoch(load, now_us))
        if self._loads[-1][1] is not epochs[-1]:
            self._loads.append((now_us, epochs[-1]))

    def on_delivered(self, stamp_us: int | None, segments: int, *, queued: bool) -> None:
        """Count delivered segments.

        Parameters
        ----------
        stamp_us : time of departure of the newest of them; None if it is not newer than the newest before
        queued : True if it met a queue; the same is assumed of all that left since the newest before it
        """
        if stamp_us is not None:
            if queued is not self._queues[-1][1]:
                self._queues.append((self._newest_us + 1, queued))
            self._newest_us = stamp_us
        if not self._queues[-1][1]:
            _entry_at(self._loads, self._newest_us).sent += segments

    def on_lost(self, stamp_us: int, segments: int) -> None:
        """Count lost segments; a negative number if they were found delivered after all.

        Parameters
        ----------
        stamp_us : time of departure. They met a queue if the segments delivered of that time did: by the time
            a loss is detected, the queue may have drained.
        """
        if not _entry_at(self._queues, stamp_us):
            epoch = _entry_at(self._loads, stamp_us)
            epoch.sent += segments
            epoch.lost += segments

    def add_below_capacity(self, epoch: Epoch) -> None:
        """Add transmissions that were found later to have been sent below the path's capacity."""
        self._epochs[OfferedLoad.BELOW_CAPACITY].append(epoch)

    def expire(self, before_us: int) -> None:
        """Drop the epochs that ended before this time."""
        for epochs in self._epochs.values():
            while len(epochs) > 1 and epochs[1].started_us < before_us:
                epochs.popleft()

    def clear(self, now_us: int) -> None:
        """Drop all epochs and begin a new one at the current load."""
        load = self.offered_load
        for epochs in self._epochs.values():
            epochs.clear()
        self._loads.clear()
        # Transmissions that left before are resolved for another round trip, and count for nothing.
        self._loads.append((0, Epoch(OfferedLoad.UNKNOWN, 0)))
        epoch = Epoch(load, now_us)
        self._epochs[load].append(epoch)
        self._loads.append((now_us, epoch))
