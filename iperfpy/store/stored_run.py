"""The record of a whole test: the result of `measure`, its form in a file, and columns of its figures.

test  --RunRecorder--> Run --document()--> iperf3's JSON --save()--> file, or --keep()--> folder of runs
                       Run <--from_document()-- JSON <--load()-- file, or <--find("last")-- folder of runs
                       Run --replay(sink)--> any report
                       Run --column(name)--> numpy array
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from iperfpy import __version__
from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.diagnosis.finding import Finding
from iperfpy.errors import DocumentError
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import SocketAddress, Transport
from iperfpy.protocols.metrics import Metric, Side, Unit, Value
from iperfpy.protocols.whole_file import read_whole
from iperfpy.records import EndFacts, Latency, Row, RunEnded, RunStarted, Sample
from iperfpy.sampling.host import system_info
from iperfpy.sampling.sums import by_direction, total
from iperfpy.store.direction_figures import about_test
from iperfpy.store.document_reader import read_end, read_intervals, read_start
from iperfpy.store.folder import MOST_BYTES, Folder, read_document
from iperfpy.store.iperf3_document import INTERRUPTED, Iperf3Document
from iperfpy.store.iperf3_reader import as_ours, is_iperf3s

if TYPE_CHECKING:
    from numpy.typing import NDArray

BASE_FIGURES: Mapping[str, Callable[[Sample], Value]] = {
    "start": lambda sample: sample.start_us / 1e6,
    "end": lambda sample: sample.end_us / 1e6,
    "seconds": lambda sample: sample.seconds,
    "bytes": lambda sample: sample.bytes,
    "bits_per_second": lambda sample: sample.bits_per_second,
    "omitted": lambda sample: int(sample.omitted),
}
"""Figures that every transport has; the rest is named by the keys of its metrics."""


@dataclass(frozen=True, slots=True)
class Interval:
    """One report interval of all streams.

    Attributes
    ----------
    rows : one per stream, in stream order
    sums : one per direction (two in a bidirectional test), the sum over its streams
    metrics : of the transport
    """

    rows: tuple[Row, ...]
    sums: tuple[Row, ...]
    metrics: tuple[Metric, ...] = field(repr=False)

    @classmethod
    def of(cls, rows: tuple[Row, ...], transport: Transport) -> Interval:
        """Add up the rows of one interval."""
        sums = tuple(total(group, transport.metrics) for group in by_direction(rows))
        return cls(rows, sums, transport.metrics)

    @property
    def start(self) -> float:
        """Seconds since the test began, or since the omitted period was over."""
        return self.sums[0].local.start_us / 1e6

    @property
    def end(self) -> float:
        """Seconds, as `start`."""
        return self.sums[0].local.end_us / 1e6

    @property
    def seconds(self) -> float:
        """Measured length of the interval."""
        return self.sums[0].local.seconds

    @property
    def bits_per_second(self) -> float:
        """Payload rate of the first direction, as this end counted it, all streams together; NaN if the
        interval was too short for a rate."""
        return _number(self.sums[0].local.bits_per_second)

    @property
    def omitted(self) -> bool:
        """True if the interval belongs to the omitted period."""
        return self.sums[0].local.omitted

    def figure(self, name: str, direction: Direction | None = None) -> float:
        """A figure of the sum over the streams of one direction, NaN where it was not measured.

        `name` as in `Run.column`; `direction` None: the first one. Raises KeyError as `Run.total`.
        """
        _numeric(name, self.metrics)
        row = next((row for row in self.sums if _matches(row, 0, direction)), None)
        return math.nan if row is None else _number(figure_of(row, name))


@dataclass(frozen=True, slots=True)
class End:
    """Facts about the client or the server of a test.

    Attributes
    ----------
    role : CLIENT or SERVER
    addresses : (host, port) of the data sockets, in stream order
    cpu_percent : processor time over wall time, as percent of one processor, under the keys total, user
        and system; empty if it is not known
    congestion : the kernel's congestion control for TCP, or empty
    version, system_info : program and machine; of the end that did not write the record empty, unless it is
        a server that told them
    mss_bytes, send_buffer_bytes, receive_buffer_bytes : of its first data socket, see `ConnectedStream`; None
        if they are not known
    """

    role: Role
    addresses: tuple[SocketAddress, ...]
    cpu_percent: Mapping[str, float]
    congestion: str = ""
    version: str = ""
    system_info: str = ""
    mss_bytes: int | None = None
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None


class Reader(Protocol):
    """The methods of a `Sink` that `Run.replay` calls."""

    def start(self, start: RunStarted) -> None: ...
    def interval(self, rows: tuple[Row, ...]) -> None: ...
    def end(self, end: RunEnded) -> None: ...
    def error(self, message: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Run:
    """The record of one test, as one end measured it.

    Attributes
    ----------
    started : parameters and connections; None if the test failed before it started
    intervals : every report interval, omitted ones too
    ended : summary rows, processor time and reason of the end; None if the test failed before its streams
        carried data
    error : one sentence if the test failed or was ended early, else empty
    version, system_info : the program and the machine that measured
    """

    started: RunStarted | None = None
    intervals: tuple[Interval, ...] = ()
    ended: RunEnded | None = None
    error: str = ""
    version: str = f"iperfpy {__version__}"
    system_info: str = field(default_factory=system_info)

    # -- the test

    @property
    def plan(self) -> Plan:
        """The parameters of the test. Raises `DocumentError` if the test failed before it started."""
        return self._begun().plan

    @property
    def transport(self) -> str:
        """Name of the transport. Raises `DocumentError` if the test failed before it started."""
        return self._begun().plan.transport

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the transport by name, defaults included. Raises `DocumentError` as `plan`."""
        return self._begun().plan.settings.record()

    @property
    def complete(self) -> bool:
        """True if the test ran to its planned end and both ends exchanged results."""
        return self.ended is not None and not self.error

    @property
    def failed(self) -> bool:
        """True if the test failed. A test that this end's user ended early did not fail."""
        return self.ended.failed if self.ended is not None else bool(self.error)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Limits of this end that kept the test from showing all that the path carries, a sentence each."""
        start = self.started.warnings if self.started is not None else ()
        return (*start, *(self.ended.warnings if self.ended is not None else ()))

    @property
    def latency(self) -> Latency:
        """Round-trip times before the test and under its load."""
        return self.ended.latency if self.ended is not None else Latency()

    @property
    def diagnosis(self) -> tuple[Finding, ...]:
        """The limits of the test, and advice: of each direction the most important finding first. Empty
        if the test failed, or if the document is of an earlier version."""
        return self.ended.findings if self.ended is not None else ()

    @property
    def evidence(self) -> tuple[RunEvidence, ...]:
        """The measurements behind `diagnosis`, one per direction: packets by time, and limits of the sender.
        Documents do not store them: empty in a run that was read from one."""
        return self.ended.evidence if self.ended is not None else ()

    @property
    def client(self) -> End:
        """Facts about the client. Raises `DocumentError` if the test failed before it started."""
        return self._end(Role.CLIENT)

    @property
    def server(self) -> End:
        """Facts about the server. Raises `DocumentError` if the test failed before it started."""
        return self._end(Role.SERVER)

    # -- figures

    @property
    def rows(self) -> tuple[Row, ...]:
        """The figures of the whole test, one row per stream; empty if the test did not end."""
        return self.ended.rows if self.ended is not None else ()

    @property
    def sums(self) -> tuple[Row, ...]:
        """The figures of the whole test, one row per direction: the sum over its streams."""
        metrics = self._metrics()
        return tuple(total(group, metrics) for group in by_direction(self.rows))

    @property
    def bits_per_second(self) -> float:
        """Payload rate over the whole test, as the receiver counted it.

        As the sender counted it if the receiver's count is not known; NaN without a summary, or if the time
        was too short for a rate. Of a bidirectional test: the direction from client to server.
        """
        return self.total("bits_per_second") if self.rows else math.nan

    @property
    def figures(self) -> tuple[str, ...]:
        """The names that `column` takes; `total` takes those with a figure that is no text."""
        return (*BASE_FIGURES, *(key for metric in self._metrics() for key in metric.keys))

    def total(
        self, name: str, *, stream: int = 0, direction: Direction | None = None, side: Side | None = None
    ) -> float:
        """One figure of the whole test: an int or a float, NaN where it was not measured.

        Parameters
        ----------
        name : as in `column`
        stream : a stream's number, 0: the sum over the streams of a direction
        direction : of the sum; None: the first one
        side : the end that counted, for times and bytes; None: the receiver, or this end if the receiver's
            count is not known

        Raises
        ------
        KeyError
            The transport has no figure of that name, or it is a text (which `rows` have).
        """
        _numeric(name, self._metrics())
        rows = self.rows if stream else self.sums
        row = next((row for row in rows if _matches(row, stream, direction)), None)
        if row is None:
            return math.nan
        # Bytes that left the sender may have been lost: the receiver's count is the result of a test.
        counted = side or (Side.RECEIVER if row.of(Side.RECEIVER) else row.local.side)
        return _number(figure_of(row, name, counted))

    def column(
        self, name: str, *, stream: int = 0, direction: Direction | None = None, side: Side | None = None
    ) -> NDArray[Any]:
        """One figure of every interval.

        Parameters
        ----------
        name : str
            start, end, seconds (s), bytes, bits_per_second, omitted, or the key of a metric of the
            transport (rtt_us, retransmits, rtt_us_max, ...), as in `-J`; `figures` lists them.
        stream : int
            A stream's number (1, 3, 4, ...), or 0 for the sum over the streams of a direction.
        direction : Direction, optional
            Of the sum: FORWARD or REVERSE. None: the first direction of the test.
        side : Side, optional
            The end that counted, for times and bytes. None: this end. A metric belongs to one side and
            needs no choice.

        Returns
        -------
        numpy.ndarray, shape (number of intervals,)
            dtype float64, NaN where the figure was not measured; dtype bool for `omitted`; dtype object
            (str or None) for a metric that is a text.

        Raises
        ------
        KeyError
            The transport has no figure of that name.
        """
        import numpy as np  # here, because most programs need no column and importing it takes long

        metric = metric_of(name, self._metrics())
        values: list[Value] = []
        for interval in self.intervals:
            rows = interval.rows if stream else interval.sums
            row = next((row for row in rows if _matches(row, stream, direction)), None)
            values.append(None if row is None else figure_of(row, name, side))
        if metric is not None and metric.unit is Unit.TEXT:
            return np.array([*values], dtype=object)
        if name == "omitted":
            return np.array([bool(value) for value in values], dtype=np.bool_)
        return np.array([_number(value) for value in values], dtype=np.float64)

    # -- documents

    def document(self) -> dict[str, Any]:
        """The document that `iperfpy -J` prints: JSON values only."""
        document = Iperf3Document(self.version, self.system_info)
        self.replay(document)
        return document.document

    def replay(self, sink: Reader) -> None:
        """Give a report every record of the run, in order."""
        if self.started is not None:
            sink.start(self.started)
        for interval in self.intervals:
            sink.interval(interval.rows)
        if self.ended is not None:
            sink.end(self.ended)
        elif self.error:
            sink.error(self.error)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the document to a file. Raises OSError."""
        Path(path).write_text(json.dumps(self.document(), indent="\t", allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Run:
        """Read a file that `save` or `iperfpy -J` wrote.

        Raises
        ------
        OSError
            The file cannot be read, or is longer than 256 MiB.
        DocumentError
            It holds no document of a test.
        """
        try:
            document = json.loads(read_whole(path, MOST_BYTES, descriptors=True))
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"{path} is not JSON: {error}") from error
        return cls.from_document(document)

    def keep(self, folder: str | PathLike[str] = "") -> Path:
        """Save the run as `--save` does: a document in the folder of runs, and a line of its index.

        Parameters
        ----------
        folder : empty: the one that the environment variable IPERFPY_RESULTS names, or `results`

        Returns
        -------
        Path
            The document.

        Raises
        ------
        OSError
            It cannot be written.
        DocumentError
            The test failed before it started.
        """
        self._begun()
        document, target = self.document(), Folder(folder)
        return target.document_path(target.save(document, about_test(document)))

    @classmethod
    def find(cls, name: str = "last", folder: str | PathLike[str] = "") -> Run:
        """Read a run of the folder of runs. `name`: of the run, or a beginning of it, `last`, `last~1`, or a
        file; `folder` as in `keep`. Raises `DocumentError`."""
        return cls.from_document(read_document(Folder(folder).find(name)))

    @classmethod
    def from_document(cls, document: Mapping[str, Any], transport: Transport | None = None) -> Run:
        """Read the document of a test by iperfpy or iperf3.

        `document()` of the result is equal to `document` of iperfpy; that of iperf3 gets the keys of iperfpy.
        The test's cookie is kept, KCP's conversation numbers are not. `transport`: for a transport that is
        not registered.

        Raises
        ------
        DocumentError
            It is no such document, or the run's transport is neither installed nor described in it.
        """
        if not isinstance(document, Mapping):
            raise DocumentError("the document of a test must be a JSON object")
        if is_iperf3s(document):
            document = as_ours(document)
        started = read_start(document, transport)
        program = document["start"]
        error = str(document.get("error", ""))
        version, system = str(program["version"]), str(program.get("system_info", ""))
        # A test that failed before it started has neither rows nor an end.
        if started is None:
            return cls(error=error, version=version, system_info=system)
        intervals = tuple(Interval.of(rows, started.transport) for rows in read_intervals(document, started))
        ended = read_end(document, started)
        sentence = error if ended is None else error.removeprefix(INTERRUPTED)
        return cls(started, intervals, ended, sentence, version, system)

    # -- helpers

    def _begun(self) -> RunStarted:
        if self.started is None:
            raise DocumentError(f"the test failed before it started: {self.error}")
        return self.started

    def _metrics(self) -> tuple[Metric, ...]:
        return self.started.transport.metrics if self.started is not None else ()

    def _end(self, role: Role) -> End:
        start = self._begun()
        own = start.role is role
        connected = start.connected
        prefix = "host_" if own else "remote_"
        percent = self.ended.cpu_percent if self.ended is not None else {}
        # The kernel's congestion control is stored by the direction of the local end's data.
        receives = all(not one.stream.sends for one in connected) == own
        extra = self.ended.extra if self.ended is not None else {}
        facts = self._own_facts() if own else self._servers_facts()
        return End(
            role=role,
            addresses=tuple((one.local if own else one.remote)[:2] for one in connected),
            cpu_percent={
                key.removeprefix(prefix): value for key, value in percent.items() if key.startswith(prefix)
            },
            congestion=str(extra.get(f"{'receiver' if receives else 'sender'}_tcp_congestion", "")),
            **asdict(facts),
        )

    def _own_facts(self) -> EndFacts:
        """The facts about the end that wrote the record, client or server."""
        first = next(iter(self._begun().connected), None)
        if first is None:
            return EndFacts(self.version, self.system_info)
        sizes = (first.mss_bytes, first.send_buffer_bytes, first.receive_buffer_bytes)
        return EndFacts(self.version, self.system_info, *sizes)

    def _servers_facts(self) -> EndFacts:
        """The facts that the server told of its end. A stock iperf3 tells some if its own document was asked
        for (--get-server-output)."""
        if self.ended is None or self._begun().role is Role.SERVER:
            return EndFacts()
        output = self.ended.server_output
        start = output.get("start") if isinstance(output, Mapping) else None
        if self.ended.server.record() or not isinstance(start, Mapping):
            return self.ended.server
        version, system = (start.get(key) for key in ("version", "system_info"))
        return EndFacts(
            version if isinstance(version, str) else "", system if isinstance(system, str) else ""
        )


def metric_of(name: str, metrics: tuple[Metric, ...]) -> Metric | None:
    """The metric that a figure belongs to, None for a base figure. Raises KeyError for an unknown name."""
    if name in BASE_FIGURES:
        return None
    for metric in metrics:
        if name in metric.keys:
            return metric
    known = (*BASE_FIGURES, *(key for metric in metrics for key in metric.keys))
    raise KeyError(f"no figure {name!r}; there are {', '.join(known)}")


def _numeric(name: str, metrics: tuple[Metric, ...]) -> None:
    """Raise KeyError unless the name is that of a figure that is a number."""
    metric = metric_of(name, metrics)
    if metric is not None and metric.unit is Unit.TEXT:
        raise KeyError(f"{name!r} is a text: read it from the rows")


def figure_of(row: Row, name: str, side: Side | None = None) -> Value:
    """A figure of a row, by the name of a base figure or the key of a metric; None if it is not known.

    `side` chooses the end for a base figure, None: this end. Only one end has a metric of a given key.
    """
    base = BASE_FIGURES.get(name)
    if base is not None:
        sample = row.of(side or row.local.side)
        return None if sample is None else base(sample)
    for one in (row.local, row.peer):
        if one is not None and name in one.values:
            return one.values[name]
    return None


def _matches(row: Row, stream: int, direction: Direction | None) -> bool:
    return row.stream == stream and (direction is None or row.direction is direction)


def _number(value: Value) -> float:
    """The number itself (an int stays one), NaN for None and for a text."""
    return value if isinstance(value, (int, float)) else math.nan
