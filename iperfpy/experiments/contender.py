"""The contenders of a comparison: transports with their settings, as a user names them.

WORD     NAME[:PART]...         kcp    tcp:bbr    kcp:fast    udp:20M    kcp:sndwnd=512:mtu=1200
PART     KEY=VALUE              a setting of the transport, or `rate`
         a word                 a boolean setting, or the value of the transport's variant (its congestion
                                control, its mode), or the rate of a transport that repeats no losses
--set    NAME:KEY=VALUE         the same for every contender of that transport, or for the one of that word
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from iperfpy.errors import PlanError, from_transport
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import transport as transport_named
from iperfpy.protocols.settings import Setting, Settings, setting_fields
from iperfpy.protocols.units import parse_rate

DEFAULT_CONTENDERS = ("tcp:bbr", "tcp:cubic", "kcp", "kcp-bbr")
RATE = "rate"
"""Key of the payload rate, which every transport takes."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A transport with settings.

    Parameters
    ----------
    word : as the user named it
    name : for tables and sentences, unique in a comparison
    chosen : the settings that differ from the transport's defaults by the user's choice
    rate_bps : payload rate, 0: as fast as it goes, or for a transport that repeats no losses a share of the
        rate of the others
    """

    word: str
    name: str
    transport: Transport
    settings: Settings
    chosen: Mapping[str, Any] = field(default_factory=dict)
    rate_bps: int = 0

    @property
    def ranked(self) -> bool:
        """True if its rate is a result: it adapts the rate itself, and delivers everything."""
        return self.transport.reliable and not self.rate_bps


def contenders_of(
    words: Sequence[str], settings: Sequence[str] = (), *, needs_rates: bool = True
) -> tuple[Contender, ...]:
    """The contenders that the words mean, with the further settings `NAME:KEY=VALUE`.

    One text may have several words, with commas between them. `needs_rates`: a transport that repeats no
    losses needs a rate of its own, unless another contender shows one.

    Raises
    ------
    PlanError
        A word is not understood, two contenders are the same, or no contender has a setting. The sentence
        names the word or the key.
    """
    if isinstance(words, str):  # its characters would be taken for contenders
        words = words.split(",")
    try:
        found = [_contender(word) for word in words]
        for text in settings:
            found = _with_setting(found, text)
    except SettingsError as error:
        raise from_transport(error) from error
    if not found:
        raise PlanError("a comparison needs a contender")
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise PlanError(f"the contender {twice} is there twice")
    follows = next((one for one in found if not one.transport.reliable and not one.rate_bps), None)
    if needs_rates and follows is not None and not any(one.ranked for one in found):
        word = follows.word
        raise PlanError(
            f"{word} repeats no losses, so it needs a rate where no other contender shows one: {word}:20M"
        )
    return tuple(found)


def _contender(word: str) -> Contender:
    name, *pieces = (part.strip() for part in word.strip().split(":"))
    transport = transport_named(name)
    parts = _joined(transport, pieces)
    values: dict[str, Any] = {}
    titles, rate_bps = [name], 0
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals:
            key, text, title = _bare(transport, part, word)
        else:
            # `kcp kcp-sndwnd=512` would say twice which transport it is.
            short = part.removeprefix(f"{transport.prefix}-")
            title = text if transport.variant and _is_variant(transport, key) else short
        titles.append(title)
        if key == RATE:
            rate_bps = _rate(transport, text)
        else:
            values |= _value(transport, key, text)
    return Contender(
        word.strip(), " ".join(titles), transport, transport.settings(**values), values, rate_bps
    )


def _rate(transport: Transport, text: str) -> int:
    """Bits per second of a text; 0 only for a transport that finds a rate by itself. Raises
    `SettingsError`."""
    rate_bps = parse_rate(text)
    if not rate_bps and not transport.reliable:
        raise SettingsError(f"{transport.name} repeats no losses, so its rate must be above 0, not {text!r}")
    return rate_bps


def _joined(transport: Transport, pieces: Sequence[str]) -> list[str]:
    """The parts of a word that was cut at every colon: a number behind the text of a setting continues it, as
    in `kcp:fec=10:3`."""
    parts: list[str] = []
    for piece in pieces:
        key, equals, _ = parts[-1].partition("=") if parts else ("", "", "")
        setting = _found(transport, key) if equals else None
        if piece.isdecimal() and setting is not None and setting.kind is str:
            parts[-1] += f":{piece}"
        else:
            parts.append(piece)
    return parts


def _bare(transport: Transport, part: str, word: str) -> tuple[str, str, str]:
    """(key, value, title) of a part without a key."""
    setting = _found(transport, part)
    if setting is not None and setting.kind is bool:
        return part, "on", part
    if transport.variant:
        return transport.variant, part, part
    if not transport.reliable:
        return RATE, part, part
    raise SettingsError(f"{part!r} in {word!r} is no setting: {_list(transport)}")


def _with_setting(found: Sequence[Contender], text: str) -> list[Contender]:
    """The contenders, with one more setting of those that the text names."""
    text = text.strip()
    known = {name for one in found for name in (one.word, one.transport.name) if text.startswith(f"{name}:")}
    # The value may have colons of its own.
    target = max(known, key=len, default=text.partition("=")[0].rpartition(":")[0])
    colon, pair = text[len(target) : len(target) + 1], text[len(target) + 1 :]
    key, equals, value = pair.partition("=")
    if not (colon and equals and target and key):
        raise SettingsError(f"{text!r} is no setting: expected NAME:KEY=VALUE, such as kcp:sndwnd=512")
    meant = [one for one in found if target in (one.word, one.transport.name)]
    if not meant:
        transport_named(target.partition(":")[0])
        raise SettingsError(f"{text!r} is a setting of no contender: there is no {target}")
    return [_set(one, key, value) if one in meant else one for one in found]


def _set(one: Contender, key: str, text: str) -> Contender:
    if key == RATE:
        return replace(one, rate_bps=_rate(one.transport, text))
    values = {**one.chosen, **_value(one.transport, key, text)}
    return replace(one, settings=one.transport.settings(**values), chosen=values)


def _value(transport: Transport, key: str, text: str) -> dict[str, Any]:
    """The setting of that key as a keyword. Raises `SettingsError` with the key."""
    setting = _found(transport, key)
    if setting is None:
        raise SettingsError(f"{transport.name} has no setting {key!r}: {_list(transport)}")
    try:
        value = setting.parsed(text)
        setting.check(value)
    except SettingsError as error:
        raise SettingsError(f"{error} ({transport.name}:{key})") from None
    return {setting.name: value}


def _found(transport: Transport, key: str) -> Setting | None:
    fields = setting_fields(transport.settings)
    return next((one for one in fields if key in one.spellings(transport.prefix)), None)


def _is_variant(transport: Transport, key: str) -> bool:
    setting = _found(transport, key)
    return setting is not None and setting.name == transport.variant


def _list(transport: Transport) -> str:
    """The keys of a transport, as sentences list them."""
    longest = [
        max(one.flags(transport.prefix), key=len).lstrip("-") for one in setting_fields(transport.settings)
    ]
    return f"it has {', '.join((*longest, RATE))}"
