"""A plug-in's transport as a document describes it: its run is shown where the plug-in is not installed.

    Transport --plugin_object--> `start.plugin` of a document --read_plugin--> StoredTransport

The document of a built-in transport has no such part: every installation knows its metrics.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, NoReturn

from iperfpy.errors import FaultError
from iperfpy.protocols.contract import Iperf3Mapping, Transport
from iperfpy.protocols.metrics import Metric
from iperfpy.protocols.registry import built_in_transports
from iperfpy.protocols.settings import Settings
from iperfpy.store.document_part import DocumentPart

Json = dict[str, Any]

PLAIN = Metric("", "")
"""Its values are the defaults, which a document leaves out."""


@dataclass(frozen=True)
class StoredSettings(Settings):
    """The settings of a stored run, without their declaration."""

    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The transport checked the values when the test ran."""

    def record(self) -> dict[str, Any]:
        return dict(self.values)

    def by_flag(self, prefix: str) -> dict[str, str]:
        """The values by their names: the flags of the transport are not stored."""
        return {name: str(value) for name, value in self.values.items() if value not in (None, False)}

    def to_wire(self) -> NoReturn:
        raise _only_shown()


class StoredTransport(Transport):
    """A transport that can be shown and cannot be measured; made by `read_plugin`."""

    settings = StoredSettings
    prefix = ""
    stored: ClassVar[Json]
    """The object that describes it."""

    def block_bytes(self, settings: Settings) -> int:
        """0: the default is not stored."""
        return 0

    async def connect(self, *_: Any) -> NoReturn:
        raise _only_shown()

    async def accept(self, *_: Any) -> NoReturn:
        raise _only_shown()

    def __reduce__(self) -> tuple[Any, ...]:
        """A run can be sent to another process, which makes the class again."""
        return _made, (self.name, self.stored)


def plugin_of(transport: Transport) -> Json:
    """The key `plugin` of `start` with the description of a plug-in's transport; empty for a built-in one."""
    if transport.name in built_in_transports():
        return {}
    return {"plugin": transport.stored if isinstance(transport, StoredTransport) else _object(transport)}


def read_plugin(name: str, stored: DocumentPart) -> StoredTransport:
    """The transport that a document describes. Raises `ValueError` for a value of another kind."""
    _metrics(stored)
    return _made(name, dict(stored.values))


def _object(transport: Transport) -> Json:
    """`summary`, the transport's place in iperf3's document, and its metrics without default values."""
    return {
        "summary": transport.summary,
        "iperf3": {name: value for name, value in asdict(transport.iperf3).items() if value},
        "metrics": [_metric_object(metric) for metric in transport.metrics],
    }


def _metric_object(metric: Metric) -> Json:
    values = {one.name: getattr(metric, one.name) for one in fields(Metric)}
    return {
        name: value.value if isinstance(value, enum.Enum) else value
        for name, value in values.items()
        if value != getattr(PLAIN, name)
    }


def _made(name: str, stored: Json) -> StoredTransport:
    part = DocumentPart(stored)
    iperf3 = part.part("iperf3")
    contents = {
        "name": name,
        "summary": part.text("summary", ""),
        "metrics": _metrics(part),
        "iperf3": Iperf3Mapping(**{one.name: iperf3.text(one.name, "") for one in fields(Iperf3Mapping)}),
        "stored": stored,
    }
    kind: type[StoredTransport] = type("StoredTransport", (StoredTransport,), contents)
    return kind()


def _metrics(stored: DocumentPart) -> tuple[Metric, ...]:
    return tuple(_metric(part) for part in stored.parts("metrics"))


def _metric(stored: DocumentPart) -> Metric:
    """A metric; each of its fields is read by the type of its default."""
    values: dict[str, Any] = {"key": stored.text("key")}
    readers: dict[type, Callable[[str], Any]] = {
        str: stored.text,
        bool: stored.flag,
        int: stored.whole,
        float: stored.number,
    }
    for name in (one.name for one in fields(Metric) if one.name in stored.values):
        kind = type(getattr(PLAIN, name))
        # An enumeration raises ValueError, too, for a value that it does not have.
        values[name] = readers[kind](name) if kind in readers else kind(stored.values[name])
    return Metric(**{"doc": "", **values})


def _only_shown() -> FaultError:
    return FaultError("a stored transport can be shown, and not measured")
