"""The language that describes a path in one line: `parse` reads it, `describe` writes it.

    20M,delay=85ms,queue=1bdp,loss=1 down:rate=5M @5s:rate=10M @8s:down:loss=100
    preset=pantheon-5,loss=1
    trace=lte.down,delay=25ms,queue=300p

Items are separated by commas or spaces. A bare value at the beginning is the rate. `up:` sends the items
behind it towards the far end, as the client sends; `down:` the other way; `both:` both ways. Without a
direction, `BOTH_WAYS` names the keys that hold both ways; the others hold towards the far end. `@5s:` lets
the items behind it hold from that time on. `preset=NAME` stands for the items of a preset (`presets.py`) and
sets all keys of both ways; items behind it override it. docs/simulator.md has the table of the keys.

Names and meanings are those of common path emulators: k, M and G are powers of 1,000, a bare time is in
milliseconds, shares are in per cent, and sizes are those of IP packets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, NamedTuple

from iperfpy.protocols.simulator.path import (
    OVERHEAD_BYTES,
    Bursts,
    Change,
    CoDel,
    Lumps,
    Path,
    RateWalk,
    SecondWay,
)
from iperfpy.protocols.simulator.presets import PRESETS
from iperfpy.protocols.simulator.rate_trace import RateTrace
from iperfpy.protocols.simulator.trace_file import TraceError, read_trace
from iperfpy.protocols.simulator.trace_models import FASTEST, MODELS, MOST_NUMBER, SLOWEST, generate

LONGEST_TEXT = 65_536
MOST_EVENTS = 1_000
MOST_TRACES = 16
"""Different traces of a path, each of which may take 80 MB of memory."""
WAYS = ("up", "down")
BOTH_WAYS = ("delay", "maxlen")
_LONGEST_NUMBER = 64

_SIZES = {
    "": Fraction(1),
    "k": Fraction(10**3),
    "K": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
}
_TIMES = {"": Fraction(1_000), "us": Fraction(1), "ms": Fraction(1_000), "s": Fraction(10**6)}
_SHARES = {"": Fraction(1, 100), "%": Fraction(1, 100)}
_PLAIN = {"": Fraction(1)}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)([A-Za-z%]*)", re.ASCII)
_EVENT = re.compile(r"@([^:@]*):(.*)", re.DOTALL)
_WAY = re.compile(r"(up|down|both):(.*)", re.DOTALL)
_PRESET = "preset"
_ONE_OF = {"rate": "trace", "trace": "rate"}
"""Keys that describe the bottleneck; the later one takes the place of the other."""
_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
_SEPARATOR = re.compile(r"[,\s]|%(?=[0-9A-Fa-f]{2})", re.ASCII)


class PathTextError(ValueError):
    """A text describes no path. The message names the item, and the values that its key accepts."""


def parse(text: str) -> tuple[Path, Path]:
    """Read a path; return the way towards the far end and the way back, with events as their changes.

    Raises PathTextError.
    """
    stages: dict[int, list[_Item]] = {0: []}
    for item in _items(text):
        stages.setdefault(item.at_us, []).append(item)
    if len(stages) > MOST_EVENTS:
        raise PathTextError(f"a path has at most {MOST_EVENTS} times of events, not {len(stages)}")
    ways = {way: _Way(way) for way in WAYS}
    paths: dict[str, Path] = {}
    changes: dict[str, list[Change]] = {way: [] for way in WAYS}
    last: dict[str, Mapping[str, Any]] = {}
    for at_us, items in sorted(stages.items()):
        for item in items:
            for way in item.ways:
                ways[way].take(item.key, item.value)
        # The two ways share a round trip, from which `queue=1bdp` is worked out again after each event.
        rtt_us = ways["up"].values["delay"] + ways["down"].values["delay"]
        for way, state in ways.items():
            fields = state.fields(rtt_us)
            if way not in paths:
                paths[way] = Path(**fields)
            elif changed := {name: value for name, value in fields.items() if value != last[way][name]}:
                changes[way].append(Change(at_us, changed))
            last[way] = fields
    for state in ways.values():
        state.check_rate()
    up, down = (paths[way].with_(changes=tuple(changes[way])) for way in WAYS)
    return up, down


def describe(there: Path, back: Path) -> str:
    """Write a path as a text that `parse` reads as the same path."""
    # Each part is written against the state before it, so it holds the keys that change and no others.
    states = {"up": Path(buffer_datagrams=_QUEUE.packets), "down": Path(buffer_datagrams=_QUEUE.packets)}
    times: dict[int, dict[str, Path]] = {0: {}}
    for way, path in zip(WAYS, (there, back), strict=True):
        now = path.with_(changes=())
        times[0][way] = now
        for change in sorted(path.changes, key=lambda change: change.at_us):
            now = now.with_(**change.fields)
            times.setdefault(change.at_us, {})[way] = now
    parts: list[str] = []
    for at_us, paths in sorted(times.items()):
        prefix = f"@{_time(at_us)}:" if at_us else ""
        for way, path in paths.items():
            before, now_keys = _texts(states[way]), _texts(path)
            changed = [f"{key}={text}" for key, text in now_keys.items() if text != before[key]]
            states[way] = path
            if changed:
                parts.append(f"{prefix}{way}:{','.join(changed)}")
    return " ".join(parts)


# -- reading


class _Queue(NamedTuple):
    """The limit of a queue, in one of three units, or none."""

    bytes: int | None = None
    packets: int | None = None
    bdp: Fraction | None = None


_QUEUE = _Queue(packets=1_000)


@dataclass(frozen=True, slots=True)
class _Key:
    """A key of the language.

    read : value of a text; it raises ValueError
    accepted : the accepted values, for messages
    """

    read: Callable[[str], Any]
    accepted: str
    default: Any


@dataclass(frozen=True, slots=True)
class _Item:
    """One key with its value, the ways for which it holds, and the time from which it holds."""

    at_us: int
    ways: tuple[str, ...]
    key: str
    value: Any


def _items(text: str) -> Iterator[_Item]:
    """Read all items, in the order of the text."""
    if len(text) > LONGEST_TEXT:
        raise PathTextError(f"a path has at most {LONGEST_TEXT} characters, not {len(text)}")
    at_us, way, first = 0, "", True
    seen: set[tuple[int, str, str]] = set()
    traces: set[str] = set()
    for word in re.split(r"[,\s]+", text):
        rest = word
        # A time ends the direction that held before it, and a bare rate may follow either.
        if event := _EVENT.fullmatch(rest):
            at_us, way, first, rest = _event_us(word, event[1]), "", True, event[2]
        if direction := _WAY.fullmatch(rest):
            way, first, rest = direction[1], True, direction[2]
        if not rest:
            continue
        if rest.startswith(f"{_PRESET}="):
            if way or any(seen_us == at_us for seen_us, _, _ in seen):
                raise PathTextError(f"{_shown(word)}: a preset sets all keys of both ways, so it comes first")
            seen.add((at_us, way, _PRESET))
            first = False
            yield from _preset(word, rest.partition("=")[2], at_us)
            continue
        key, value = _item(word, rest, first)
        first = False
        if (at_us, way, key) in seen:
            raise PathTextError(f"{_shown(word)}: {key} is given twice")
        seen.add((at_us, way, key))
        if isinstance(value, RateTrace):
            traces.add(value.name)
            if len(traces) > MOST_TRACES:
                raise PathTextError(f"{_shown(word)}: a path has at most {MOST_TRACES} different traces")
        both = way == "both" or (not way and key in BOTH_WAYS)
        yield _Item(at_us, WAYS if both else (way or "up",), key, value)


def _preset(word: str, name: str, at_us: int) -> Iterator[_Item]:
    """The items of a preset, behind those that set every key to its default."""
    preset = PRESETS.get(name)
    if preset is None:
        close = difflib.get_close_matches(name[:_LONGEST_NUMBER], PRESETS, 1)
        hint = f"did you mean {close[0]}?" if close else f"the presets are {', '.join(PRESETS)}"
        raise PathTextError(f"{_shown(word)}: there is no such preset; {hint}")
    for key, one in KEYS.items():
        yield _Item(at_us, WAYS, key, one.default)
    for item in _items(preset.path):
        yield _Item(at_us + item.at_us, item.ways, item.key, item.value)


def _item(word: str, rest: str, first: bool) -> tuple[str, Any]:
    # The whole word stands in the message, with its time and direction, as the user wrote it.
    name, equals, text = rest.partition("=")
    if not equals:
        if not first:
            raise PathTextError(
                f"{_shown(word)}: expected key=value; only the first value may be a bare rate"
            )
        name, text = "rate", rest
    key = KEYS.get(name)
    if key is None:
        names = [*KEYS, _PRESET]
        close = difflib.get_close_matches(name[:_LONGEST_NUMBER], names, 1)
        hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(names)}"
        raise PathTextError(f"{_shown(word)}: there is no such key; {hint}")
    try:
        return name, key.read(text)
    except TraceError as error:
        raise PathTextError(f"{name}={error}") from None
    except ValueError:
        raise PathTextError(f"{_shown(word)}: {name} is {key.accepted}") from None


def _event_us(word: str, text: str) -> int:
    try:
        return round(_number(text, _TIMES, 0, 86_400 * 10**6))
    except ValueError:
        raise PathTextError(
            f"{_shown(word)}: the time of an event is from 0 to 86400s, such as @5s: or @200ms:"
        ) from None


def _shown(word: str) -> str:
    """A word of the user for a message: cut, and without control characters."""
    word = word if len(word) <= 60 else word[:57] + "..."
    return word if word.isprintable() else ascii(word)


def _number(text: str, units: Mapping[str, Fraction], least: float, most: float) -> Fraction:
    """A number with a unit; raises ValueError if it is not between the two limits."""
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if found is None or found[2] not in units:
        raise ValueError
    value = Fraction(found[1]) * units[found[2]]
    if not least <= value <= most:
        raise ValueError
    return value


def _whole(text: str, units: Mapping[str, Fraction], least: int, most: float) -> int:
    value = _number(text, units, least, most)
    return int(value) if value.denominator == 1 else _refuse()


def _read_time(text: str, least_us: float = 0, most_us: float = 60e6) -> Fraction:
    # To the nanosecond, so that sums and differences of times are exact.
    return Fraction(round(_number(text, _TIMES, least_us, most_us) * 1_000), 1_000)


def _read_share(text: str) -> float:
    return float(_number(text, _SHARES, 0, 1))


def _read_rate(text: str) -> float | None:
    value = _number(text, _SIZES, 0, 1e12)
    if not value:
        return None
    if value < 1:
        raise ValueError
    return float(value)


def _read_switch(text: str) -> bool:
    return {"0": False, "1": True}[text] if text in ("0", "1") else _refuse()


_MOST_QUEUE = 10_000_000_000  # bytes


def _refuse() -> Any:
    raise ValueError


def _read_queue(text: str) -> _Queue:
    if text == "off":
        return _Queue()
    if text.endswith("bdp"):
        return _Queue(bdp=_number(text[:-3], _PLAIN, 0, 1_000))
    if text.endswith("p"):
        return _Queue(packets=_whole(text[:-1], _SIZES, 1, 1e7))
    return _Queue(bytes=_whole(text.removesuffix("B"), _SIZES, 0, _MOST_QUEUE))


def _read_police(text: str) -> tuple[float, int] | None:
    rate, burst = _parts(text, 2, 2)
    return float(_number(rate, _SIZES, 1, 1e12)), _whole(burst, _SIZES, 1, 1e10)


def _read_bursts(text: str) -> Bursts:
    enter, leave, *shares = map(_read_share, _parts(text, 2, 4))
    return Bursts(enter, leave, *shares) if leave else _refuse()


def _read_lumps(text: str) -> Lumps:
    times = [float(_read_time(part)) for part in _parts(text, 1, 2)]
    return Lumps(times[0], times[-1])


def _read_second_way(text: str) -> SecondWay:
    extra, *share = _parts(text, 1, 2)
    return SecondWay(float(_read_time(extra)), *map(_read_share, share))


def _read_late(text: str) -> tuple[float, float]:
    most, share = _parts(text, 2, 2)
    return float(_read_time(most)), _read_share(share)


def _read_codel(text: str) -> CoDel:
    return CoDel(*(float(_read_time(part, 1)) for part in _parts(text, 1, 2)))


def _read_walk(text: str) -> RateWalk:
    period, deviation, memory = _parts(text, 3, 3)
    return RateWalk(
        float(_read_time(period)),
        float(_number(deviation, _PLAIN, 0, 2)),
        float(_number(memory, _PLAIN, 0, 1)),
    )


def _read_trace(text: str) -> RateTrace | None:
    model, _, parameters = text.partition(":")
    if model in MODELS:
        rate, *rest = _parts(parameters, 1, 2)
        bits_per_s = float(_number(rate, _SIZES, SLOWEST, FASTEST))
        number = _whole(rest[0], _PLAIN, 1, MOST_NUMBER) if rest else 1
        return RateTrace(f"{model}:{_size(bits_per_s)}/{number}", generate(model, bits_per_s, number))
    file = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return read_trace(file) if file and "\0" not in file else _refuse()


def _parts(text: str, least: int, most: int) -> list[str]:
    parts = text.split("/")
    return parts if least <= len(parts) <= most else _refuse()


def _or_off(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text == "off" else read(text)


def _read_word(**values: Any) -> Callable[[str], Any]:
    return lambda text: values[text] if text in values else _refuse()


_SHARE = "a share in per cent, from 0 to 100"
_TIME = "from 0 to 60s (a bare number is in ms)"

KEYS = {
    "rate": _Key(_read_rate, "bit/s from 1 to 1000G, such as 20M; 0 for no bottleneck", None),
    "trace": _Key(
        _or_off(_read_trace),
        f"a file in mahimahi's format, plain, .gz or .xz, or {', '.join(MODELS)}:RATE[/NUMBER], or off",
        None,
    ),
    "queue": _Key(
        _read_queue, "bytes (425k), packets (300p), multiples of rate x both delays (1bdp) or off", _QUEUE
    ),
    "delay": _Key(_read_time, f"a time such as 85ms, {_TIME}", Fraction(0)),
    "jitter": _Key(_read_time, f"a time such as 5ms, no longer than the delay, {_TIME}", Fraction(0)),
    "reorder": _Key(_read_switch, "1 if jitter reorders datagrams, or 0", False),
    "loss": _Key(_read_share, _SHARE, 0.0),
    "ge": _Key(_or_off(_read_bursts), "P/R[/BAD[/GOOD]] in per cent, with R above 0, or off", None),
    "lossat": _Key(_read_word(pre=True, post=False), "pre (ahead of the queue) or post", False),
    "police": _Key(_or_off(_read_police), "RATE/BURST, such as 20M/192k (bit/s and bytes), or off", None),
    "dup": _Key(_read_share, _SHARE, 0.0),
    "corrupt": _Key(_read_share, _SHARE, 0.0),
    "late": _Key(_read_late, "MOST/SHARE, such as 5ms/2 (up to 5 ms later, 2 % of them)", (0.0, 0.0)),
    "agg": _Key(_or_off(_read_lumps), "[LEAST/]MOST, such as 5ms/30ms, MOST from 0.1ms to 60s, or off", None),
    "alt": _Key(
        _or_off(_read_second_way), "EXTRA[/SHARE], such as 40ms/25 (SHARE in per cent), or off", None
    ),
    "codel": _Key(
        _or_off(_read_codel), "TARGET[/INTERVAL], such as 5ms/100ms, from 1us to 60s, or off", None
    ),
    "walk": _Key(
        _or_off(_read_walk),
        "PERIOD/DEVIATION/MEMORY, such as 100ms/0.5/0.9 (from 1ms; at most 2; below 1), or off",
        None,
    ),
    "maxlen": _Key(
        _or_off(lambda text: _whole(text, _PLAIN, 68, 65_535)), "bytes from 68 to 65535, or off", None
    ),
    "outage": _Key(_read_switch, "1 while every datagram is dropped, or 0", False),
}
_NEED_A_BOTTLENECK = ("queue", "codel")


@dataclass(slots=True)
class _Way:
    """The values of all keys of one way at one time."""

    name: str
    values: dict[str, Any] = field(default_factory=lambda: {name: key.default for name, key in KEYS.items()})
    had_rate: bool = False
    had_trace: bool = False

    def take(self, key: str, value: Any) -> None:
        """Set a key. A rate takes the place of a trace, and a trace of a rate."""
        self.values[key] = value
        if key in _ONE_OF and value is not None:
            self.values[_ONE_OF[key]] = None

    def fields(self, rtt_us: Fraction) -> dict[str, Any]:
        """Fields of `Path`, with every name but `changes`."""
        values = self.values
        delay, jitter, rate, trace, queue = (
            values[key] for key in ("delay", "jitter", "rate", "trace", "queue")
        )
        if jitter > delay:
            raise PathTextError(
                f"jitter={_time(float(jitter))} {self.name}: it is more than the delay, {_time(float(delay))}"
            )
        self.had_rate |= rate is not None
        self.had_trace |= trace is not None
        # Without a bottleneck there is no queue, so the keys of the queue wait for an event that sets a rate.
        mean = rate if trace is None else trace.mean_bits_per_s
        buffer_bytes = queue.bytes
        if queue.bdp is not None and mean is not None:
            # Not above what a queue in bytes may be, so that the path has a description.
            buffer_bytes = min(_MOST_QUEUE, int(queue.bdp * Fraction(mean) * rtt_us / 8_000_000))
        police, late = values["police"] or (None, 0), values["late"]
        return {
            "rate_bits_per_s": rate,
            "trace": trace,
            "buffer_bytes": buffer_bytes if mean else None,
            "buffer_datagrams": queue.packets if mean else None,
            "delay_us": float(delay - jitter),
            "jitter_us": float(2 * jitter),
            "jitter_reorders": values["reorder"],
            "loss": values["loss"],
            "bursts": values["ge"],
            "loss_before": values["lossat"],
            "police_bits_per_s": police[0],
            "bucket_bytes": police[1],
            "duplicate": values["dup"],
            "corrupt": values["corrupt"],
            "reorder_us": late[0],
            "reorder": late[1],
            "maxlen": None if values["maxlen"] is None else values["maxlen"] - OVERHEAD_BYTES,
            "down": values["outage"],
            "lumps": values["agg"],
            "second_way": values["alt"],
            "codel": values["codel"] if mean else None,
            "rate_walk": values["walk"] if rate else None,
        }

    def check_rate(self) -> None:
        """Raise PathTextError if a key needs a bottleneck, and the way never has one."""
        changed = {key for key, value in self.values.items() if value != KEYS[key].default}
        for key in _NEED_A_BOTTLENECK:
            if key in changed and not self.had_rate and not self.had_trace:
                raise PathTextError(f"{key} {self.name}: it needs a rate in that direction, such as rate=20M")
        if "walk" in changed and not self.had_rate:
            raise PathTextError(f"walk {self.name}: it needs a rate in that direction, such as rate=20M")


# -- writing


def _texts(path: Path) -> dict[str, str]:
    """The text of every key for a path without changes."""
    # In a `Path` jitter only adds to the delay; in the language it varies around it.
    jitter = _exact(path.jitter_us) / 2
    bottleneck = path.mean_bits_per_s is not None
    queue = f"{_QUEUE.packets}p"
    if bottleneck and path.buffer_datagrams is None:
        queue = "off" if path.buffer_bytes is None else str(path.buffer_bytes)
    elif bottleneck:
        queue = f"{path.buffer_datagrams}p"
    return {
        "rate": "0" if path.rate_bits_per_s is None else _size(path.rate_bits_per_s),
        "trace": "off" if path.trace is None else _SEPARATOR.sub(_escaped, path.trace.name),
        "queue": queue,
        "delay": _time(_exact(path.delay_us) + jitter),
        "jitter": _time(jitter),
        "reorder": str(int(path.jitter_reorders)),
        "loss": _share(path.loss),
        "ge": _joined(
            path.bursts
            and [*map(_share, (path.bursts.enter, path.bursts.leave, path.bursts.bad, path.bursts.good))]
        ),
        "lossat": "pre" if path.loss_before else "post",
        "police": _joined(path.police_bits_per_s and [_size(path.police_bits_per_s), str(path.bucket_bytes)]),
        "dup": _share(path.duplicate),
        "corrupt": _share(path.corrupt),
        "late": f"{_time(path.reorder_us)}/{_share(path.reorder)}",
        "agg": _joined(path.lumps and [_time(path.lumps.least_us), _time(path.lumps.most_us)]),
        "alt": _joined(path.second_way and _second_way(path.second_way)),
        "codel": _joined(
            bottleneck and path.codel and [_time(path.codel.target_us), _time(path.codel.interval_us)]
        ),
        "walk": _joined(path.rate_bits_per_s and path.rate_walk and _walk(path.rate_walk)),
        "maxlen": "off" if path.maxlen is None else str(path.maxlen + OVERHEAD_BYTES),
        "outage": str(int(path.down)),
    }


def _escaped(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _second_way(way: SecondWay) -> list[str]:
    return [_time(way.extra_us)] + ([] if way.share is None else [_share(way.share)])


def _walk(walk: RateWalk) -> list[str]:
    return [_time(walk.period_us), _decimal(_exact(walk.deviation)), _decimal(_exact(walk.memory))]


def _joined(parts: Any) -> str:
    return "/".join(parts) if parts else "off"


def _exact(value: float) -> Fraction:
    """The shortest decimal number that stands for this float."""
    return Fraction(repr(value))


def _decimal(value: Fraction) -> str:
    """All digits of a number with a finite decimal expansion."""
    with localcontext() as context:
        context.prec = 1_000
        number = (Decimal(value.numerator) / Decimal(value.denominator)).normalize()
        text = f"{number:f}"
        return text if len(text) <= 24 else f"{number:e}"


def _time(value_us: float | Fraction) -> str:
    value = value_us if isinstance(value_us, Fraction) else _exact(value_us)
    if not value:
        return "0ms"
    unit = "s" if value >= 10**6 and not value % 10**5 else "ms"
    return _decimal(value / _TIMES[unit]) + unit


def _size(value: float) -> str:
    exact = _exact(value)
    unit = next((unit for unit in "GMk" if exact >= _SIZES[unit]), "")
    return _decimal(exact / _SIZES[unit]) + unit


def _share(value: float) -> str:
    return _decimal(_exact(value) * 100)
