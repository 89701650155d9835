"""The settings of both KCP transports, under the names that KCP's users know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.kcp.engine_options import MAX_WINDOW
from iperfpy.protocols.kcp.envelope.crypt_names import KINDS, LEFT_OUT
from iperfpy.protocols.kcp.size_range import USUAL
from iperfpy.protocols.settings import Settings, option


class Tuning(NamedTuple):
    """KCP's four: (nodelay, interval in ms, resend, nc)."""

    nodelay: int
    interval: int
    resend: int
    nc: int


FEC, CRYPT = "kcp-fec", "kcp-crypt"
"""The features by which two ends agree on forward error correction and on encryption: an older end ignores
these settings."""
FEC_AUTO = "kcp-fec-auto"
"""The feature by which two ends agree on forward error correction with a geometry that changes."""
AUTO, _AUTO_WITHIN = "auto", "auto:"
FEC_BYTES = 8
"""kcp-go's header of forward error correction."""
MOST_SHARDS = 256
"""Most data and parity datagrams of a set."""
LEAST_KCP_BYTES = 50
"""The shortest KCP datagram of stock KCP's setmtu."""

MODES = {
    "normal": Tuning(0, 40, 2, 1),
    "fast": Tuning(0, 30, 2, 1),
    "fast2": Tuning(1, 20, 2, 1),
    "fast3": Tuning(1, 10, 2, 1),
}
"""The presets that kcptun made known."""


def _window(default: int, minimum: int, name: str, alias: str) -> Any:
    return option(
        default,
        help=f"{name} window, segments",
        aliases=(alias,),
        minimum=minimum,
        maximum=MAX_WINDOW,
        unit="segments",
    )


@dataclass(frozen=True, slots=True)
class SharedSettings(Settings):
    """The settings of both transports: stock KCP's windows unless a subclass has others."""

    sndwnd: int = _window(2048, 1, "send", "-sw")
    rcvwnd: int = _window(2048, 1, "receive", "-rw")
    mtu: int | None = option(
        None, help="UDP payload bytes per datagram [as the path carries]", minimum=64, maximum=65_507
    )
    socket_buffer: int | None = option(
        None,
        help="socket buffers, bytes",
        flags=("-w", "--window"),
        minimum=1,
        maximum=512 << 20,
        unit="bytes",
    )
    push: bool = option(False, help="send segments that are not full at once", flags=("-N", "--no-delay"))
    fec: str | None = option(
        None,
        help="forward error correction: data and parity datagrams of a set, as 10:3, or auto: as much as the"
        " measured loss and the stream need [off]",
        metavar="D:P|auto",
    )
    ds: int | None = option(
        None,
        help="data datagrams of a set, with --kcp-ps: another spelling of --kcp-fec",
        aliases=("-ds", "--datashard"),
        minimum=0,
        maximum=MOST_SHARDS,
        hidden=True,
    )
    ps: int | None = option(
        None,
        help="parity datagrams of a set, with --kcp-ds",
        aliases=("-ps", "--parityshard"),
        minimum=0,
        maximum=MOST_SHARDS,
        hidden=True,
    )

    crypt: str | None = option(
        None,
        help="encryption by --kcp-key-file; aes-128-gcm is recommended: all others, which kcptun has, carry a"
        " checksum that proves nothing about the sender, xor is broken by known data, and none and null"
        " encrypt nothing",
        choices=tuple(KINDS),
        left_out=LEFT_OUT,
        left_out_because="of kcptun are left out, because they are slower than aes and protect no better",
    )

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.crypt == "null":
            object.__setattr__(self, "crypt", None)
        if self.ds is not None or self.ps is not None:
            self._join_shards()
        if self.fec is not None and self.fec != AUTO:
            data, parity = _geometry(self.fec.removeprefix(_AUTO_WITHIN))
            if self.adapts_fec and not data:
                raise SettingsError(
                    "--kcp-fec must be auto, or auto and the sets of the peer, as in auto:10:3"
                )
            sets = f"{data}:{parity}" if data else None
            object.__setattr__(self, "fec", f"{_AUTO_WITHIN}{sets}" if self.adapts_fec else sets)
        least = LEAST_KCP_BYTES + self.envelope_bytes
        if self.is_enveloped and self.mtu is not None and self.mtu < least:
            raise SettingsError(
                f"mtu must be at least {least} with --kcp-fec and --kcp-crypt: their headers take"
                f" {self.envelope_bytes} bytes here, not {self.mtu}"
            )

    def _join_shards(self) -> None:
        """Take `ds` and `ps` as another spelling of `fec`."""
        if self.ds is None or self.ps is None:
            raise SettingsError("--kcp-ds and --kcp-ps need each other: data and parity datagrams of a set")
        both = f"{self.ds}:{self.ps}"
        if self.adapts_fec:
            raise SettingsError(
                f"--kcp-fec {self.fec} excludes --kcp-ds {self.ds} --kcp-ps {self.ps}: leave those out,"
                f" or give --kcp-fec {both}"
            )
        if self.fec is not None and self.fec != both:
            raise SettingsError(f"--kcp-fec {self.fec} contradicts --kcp-ds {self.ds} --kcp-ps {self.ps}")
        # The settings of a test have one spelling, on the wire and in a record.
        for name, value in (("fec", both), ("ds", None), ("ps", None)):
            object.__setattr__(self, name, value)

    @property
    def geometry(self) -> tuple[int, int] | None:
        """Data and parity datagrams of a set, with `auto:D:P` the most parity. None without forward error
        correction, and with `auto` alone."""
        if self.fec is None or self.fec == AUTO:
            return None
        return _geometry(self.fec.removeprefix(_AUTO_WITHIN))

    @property
    def adapts_fec(self) -> bool:
        """True if forward error correction follows the path."""
        return self.fec is not None and (self.fec == AUTO or self.fec.startswith(_AUTO_WITHIN))

    @property
    def envelope_bytes(self) -> int:
        """Bytes that the envelope adds to each datagram."""
        crypt_bytes = KINDS[self.crypt].added_bytes if self.crypt is not None else 0
        return crypt_bytes + (FEC_BYTES if self.fec is not None else 0)

    @property
    def is_enveloped(self) -> bool:
        """True if datagrams do not begin with KCP's header."""
        return self.fec is not None or self.crypt is not None

    @property
    def datagram_bytes(self) -> int:
        """Bytes of a KCP datagram on a path that carries the usual size, or at the size of the user."""
        return (self.mtu or USUAL) - self.envelope_bytes


def _geometry(text: str) -> tuple[int, int]:
    """The numbers of D:P, or (0, 0) for "off". Raises `SettingsError`."""
    if text in ("off", "0:0"):
        return 0, 0
    parts = text.split(":")
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 4]
    if len(numbers) != 2 or len(parts) != 2:
        raise SettingsError(f"--kcp-fec must be two numbers as in 10:3, auto, or off, not {text!r}")
    data, parity = numbers
    if not data or not parity or data + parity > MOST_SHARDS:
        raise SettingsError(
            "--kcp-fec needs at least 1 data and 1 parity datagram, and at most"
            f" {MOST_SHARDS} together, not {data}:{parity}"
        )
    return data, parity


@dataclass(frozen=True, slots=True)
class KcpSettings(SharedSettings):
    """Stock KCP. Those of the four tunings that are not given follow `mode`."""

    mode: str = option("fast3", help="preset for the four options below", choices=tuple(MODES))
    nodelay: int | None = option(None, help="1: shorter timeouts, slower backoff", minimum=0, maximum=1)
    interval: int | None = option(
        None, help="tick, ms", aliases=("-flush",), minimum=1, maximum=5000, unit="milliseconds"
    )
    resend: int | None = option(
        None,
        help="ACKs that pass a segment before it is resent; 0: never",
        aliases=("-fr",),
        minimum=0,
        maximum=255,
    )
    nc: int | None = option(None, help="1: no congestion control", aliases=("-nc",), minimum=0, maximum=1)
    ack_delay: bool = option(False, help="acknowledge at ticks only, as kcp-go does without ACK no-delay")
    write_delay: bool = option(False, help="send at ticks only, as KCP's C library does")

    @property
    def tuning(self) -> Tuning:
        """The four values in force."""
        given = (self.nodelay, self.interval, self.resend, self.nc)
        return Tuning(
            *(
                value if value is not None else preset
                for value, preset in zip(given, MODES[self.mode], strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class KcpBbrSettings(SharedSettings):
    """KCP with time-ordered recovery and BBR. Windows grow as the path needs, as far as the format goes."""

    sndwnd: int = _window(MAX_WINDOW, 16, "send", "-sw")
    rcvwnd: int = _window(MAX_WINDOW, 16, "receive", "-rw")
