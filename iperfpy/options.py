"""What one end wants for itself: frozen records that the other end does not hear of."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_PORT = 5201


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """What this end wants of its sockets and of its wait for data; the other end does not hear of it.

    `send_timeout_us`: how long TCP data may stay unacknowledged (RFC 5482), 0: as the system has it.
    `receive_timeout_us`: how long a receiver waits for data, 0: the default. `keepalive`: probes on the
    control connection, as (idle s, interval s, count) with 0 for the system's value.
    """

    device: str = ""
    send_timeout_us: int = 0
    receive_timeout_us: int = 0
    keepalive: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a client is, for a server that wants to know. `pkcs1`: the padding of iperf3 before 3.17."""

    user: str
    password: str = field(repr=False)
    public_key_pem: bytes = field(repr=False)
    pkcs1: bool = False


@dataclass(frozen=True, slots=True)
class Authorization:
    """Who may use a server: `users_path` is read anew for every client. `skew_s`: between the clocks."""

    private_key_pem: bytes = field(repr=False)
    users_path: str
    skew_s: int = 10
    pkcs1: bool = False


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Where the server is and how to reach it.

    `longest_us`: a test that bytes would end is over then; 0: only when they have been sent.
    """

    host: str
    port: int = DEFAULT_PORT
    bind: str = ""
    client_port: int = 0
    family: int = 0  # 0, socket.AF_INET or socket.AF_INET6
    connect_timeout_us: int = 5_000_000
    flow_label: int = 0
    credentials: Credentials | None = None
    file: str = ""
    longest_us: int = 0
    sockets: SocketOptions = SocketOptions()


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen, for how many tests, and what they may ask for.

    `rate_limit_bps`: of all tests together, averaged over `rate_window_us`; `longest_us`: of one test;
    `idle_us`: with `one_off`, how long to wait for that test. 0: no limit.
    """

    port: int = DEFAULT_PORT
    bind: str = ""
    family: int = 0
    one_off: bool = False
    interval_us: int = 1_000_000
    max_tests: int = 64
    rate_limit_bps: int = 0
    rate_window_us: int = 5_000_000
    longest_us: int = 0
    idle_us: int = 0
    authorization: Authorization | None = None
    file: str = ""
    sockets: SocketOptions = SocketOptions()


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What is shown, and where it goes. `csv` None: no CSV; empty: a name under results/ is made.
    `timestamps`: strftime's format of what goes before every line, or empty."""

    json: bool = False
    json_stream: bool = False
    json_full: bool = False  # beside json_stream: the whole document after the lines
    csv: str | None = None
    rate_format: str = ""  # k m g t K M G T, or empty: adaptive
    verbose: bool = False
    interval_us: int = 1_000_000
    timestamps: str = ""


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How the program runs, whatever it does."""

    daemon: bool = False
    pid_file: str = ""
    log_file: str = ""
    cpu: int | None = None
    debug: bool = False
