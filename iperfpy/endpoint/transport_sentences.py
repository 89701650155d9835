"""The sentences that a transport has to say about its senders' figures, while data flows and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iperfpy.errors import IperfpyError, guarding
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Side
from iperfpy.records import Row


class TransportSentences:
    """Asks a transport, and remembers the notices of earlier intervals."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._noticed: set[str] = set()
        self._fault: IperfpyError | None = None

    def noticed(self, row: Row) -> Row:
        """The row of an interval, with the notices that no earlier interval of any stream asked for.

        The row is reported whatever the transport does: its fault is raised by `raise_fault`.
        """
        if self._fault is not None:
            return row
        try:
            new = [text for text in self._about(row, with_remarks=False) if text not in self._noticed]
        except IperfpyError as fault:
            self._fault = fault
            return row
        self._noticed.update(new)
        return replace(row, notices=tuple(new)) if new else row

    def raise_fault(self) -> None:
        """Raise the fault that `noticed` met, if there is one."""
        if self._fault is not None:
            raise self._fault

    def of_test(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """Notices and remarks about the rows of the whole test, each once.

        Raises
        ------
        IperfpyError : a fault of the transport
        """
        self.raise_fault()
        return tuple(dict.fromkeys(text for row in rows for text in self._about(row, with_remarks=True)))

    def _about(self, row: Row, *, with_remarks: bool) -> list[str]:
        if (sender := row.of(Side.SENDER)) is None:
            return []
        figures = {"bytes": sender.bytes, **sender.values}
        with guarding(self._transport.name, f"stream {row.stream}"):
            notices = self._transport.notices(figures)
            remarks = self._transport.remarks(figures) if with_remarks else ()
            return list(map(str, (*notices, *remarks)))
