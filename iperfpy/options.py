"""The options that one end keeps to itself: frozen records that the peer does not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iperfpy.protocols.units import SECOND_US

DEFAULT_PORT = 5201
RESULTS, RESULTS_VARIABLE = "results", "IPERFPY_RESULTS"
"""Folder of the saved runs, and the environment variable that names another one."""


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Options of this end's sockets, and its limit on waiting for data.

    Parameters
    ----------
    device : network interface to bind to (--bind-dev), or empty
    send_timeout_us : longest time that TCP data may stay unacknowledged (RFC 5482), 0: the system's
    receive_timeout_us : longest time that a receiver waits for data, 0: the default
    keepalive : (idle s, interval s, count) of the control connection's probes, 0: the system's value;
        None: no probes
    """

    device: str = ""
    send_timeout_us: int = 0
    receive_timeout_us: int = 0
    keepalive: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A client's user name and password, and the server's public key that they are encrypted with.

    `pkcs1`: use the padding of iperf3 before 3.17.
    """

    user: str
    password: str = field(repr=False)
    public_key_pem: bytes = field(repr=False)
    pkcs1: bool = False


@dataclass(frozen=True, slots=True)
class Authorization:
    """The users that a server admits.

    Parameters
    ----------
    private_key_pem : the RSA key that decrypts clients' tokens
    users_path : file of `NAME,SHA256` lines, read again for every client
    skew_s : largest difference between the clocks of client and server, seconds
    pkcs1 : expect the padding of iperf3 before 3.17
    """

    private_key_pem: bytes = field(repr=False)
    users_path: str
    skew_s: int = 10
    pkcs1: bool = False


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The server's address, and how the client reaches it.

    Parameters
    ----------
    host, port : the server, a name or an address
    bind : local address or name (-B), or empty
    client_port : local port of the first data stream (--cport), 0: any
    family : socket.AF_INET, socket.AF_INET6, or 0 for either
    connect_timeout_us : limit for resolving the name, and for each attempt to connect
    flow_label : IPv6 flow label (-L), 0: none
    credentials : for a server that asks for them
    file : path of the file to send, or to fill with the payload received (-F)
    longest_us : time limit of a test that a number of bytes or blocks ends, 0: none
    secrets : by the prefix of the transports that have one; in no record
    probes : open connections beside the load, which measure the responsiveness
    """

    host: str
    port: int = DEFAULT_PORT
    bind: str = ""
    client_port: int = 0
    family: int = 0
    connect_timeout_us: int = 5 * SECOND_US
    flow_label: int = 0
    credentials: Credentials | None = None
    file: str = ""
    longest_us: int = 0
    probes: bool = True
    sockets: SocketOptions = SocketOptions()
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The server's listening address, and its limits on tests; a limit of 0 is none.

    Parameters
    ----------
    port : 0: any free port
    bind : local address or name (-B), or empty
    family : socket.AF_INET, socket.AF_INET6, or 0 for both
    one_off : serve one test, then end
    interval_us : report interval for clients that name none
    max_tests : number of concurrent tests
    rate_limit_bps : payload bits per second of all tests together, averaged over `rate_window_us`
    longest_us : duration of one test
    idle_us : with `one_off`, time to wait for that test
    authorization : None: everybody may run a test
    file : path of the file to send, or to fill with the payload received (-F)
    secrets : by the prefix of the transports that have one; in no record
    """

    port: int = DEFAULT_PORT
    bind: str = ""
    family: int = 0
    one_off: bool = False
    interval_us: int = SECOND_US
    max_tests: int = 64
    rate_limit_bps: int = 0
    rate_window_us: int = 5 * SECOND_US
    longest_us: int = 0
    idle_us: int = 0
    authorization: Authorization | None = None
    file: str = ""
    sockets: SocketOptions = SocketOptions()
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class LoneOptions:
    """The one end of a test that measures: the other one is a program without a control connection.

    Parameters
    ----------
    end : the peer's address, or the one to listen on, where an empty host means any address and port 0 any
        port; and how this end reaches the peer
    listens : this end waits for the peer, which dials it
    conv : conversation number, 0: a random one, or any that a peer has chosen
    echo : the end that listens returns what it receives; the other one measures what comes back
    silence_us : time without any sign of the peer after which it is taken for gone
    wait_us : longest wait of an end that listens
    smux : version of the smux frames that carry the payload, as kcptun's do; 0: none
    compressed : the frames are compressed, as kcptun's are without --nocomp
    """

    end: ClientOptions
    listens: bool = False
    conv: int = 0
    echo: bool = False
    silence_us: int = 5 * SECOND_US
    wait_us: int = 300 * SECOND_US
    smux: int = 0
    compressed: bool = False


OWN_TEXT, IPERF3_TEXT = "iperfpy", "iperf3"
"""The forms of the text report (--text)."""


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """The pictures that the command line makes once a measurement is over.

    Parameters
    ----------
    html, png, flent : paths of a page, of an image, and of a file for Flent; empty: none
    plot : draw the result on standard output
    """

    html: str = ""
    png: str = ""
    flent: str = ""
    plot: bool = False


NO_PICTURES = PictureOptions()


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """The reports that the command line writes.

    Parameters
    ----------
    json : one JSON document at the end (-J)
    json_stream : one JSON object per line as the test goes on
    json_full : with `json_stream`, the whole document after the lines
    csv : path of the CSV file; empty: a generated name in the folder `results`; "-": standard output;
        None: no CSV
    csv_overwrite : replace the rows that the file has, instead of adding to them
    rate_format : unit of rates, one of k m g t K M G T; empty: adaptive
    timestamps : strftime format of a prefix to every line, or empty
    text : form of the text report, `OWN_TEXT` or `IPERF3_TEXT`
    verdict : say in the text what limited each test, and what to try
    save : keep a client's run in the folder of results
    results : that folder, and the one of generated CSV names; empty: the environment's, or results/
    pictures : of a client's test
    """

    json: bool = False
    json_stream: bool = False
    json_full: bool = False
    csv: str | None = None
    csv_overwrite: bool = False
    rate_format: str = ""
    verbose: bool = False
    interval_us: int = SECOND_US
    timestamps: str = ""
    text: str = OWN_TEXT
    verdict: bool = True
    save: bool = False
    results: str = ""
    pictures: PictureOptions = NO_PICTURES


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """Options of the process, whatever it runs.

    Parameters
    ----------
    daemon : run in the background (-D)
    pid_file, log_file : paths, or empty
    cpu : processor to run on (-A), None: any
    debug : log control messages on stderr
    """

    daemon: bool = False
    pid_file: str = ""
    log_file: str = ""
    cpu: int | None = None
    debug: bool = False
