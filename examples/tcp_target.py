"""The program behind kcptun's server, for `iperfpy kcp-peer --smux`: reads a TCP connection, returns it, or
sends on it. Each connection that ends prints the bytes read.

    python tcp_target.py 5400          a sink                 iperfpy kcp-peer HOST:4000 --smux 1
    python tcp_target.py 5400 source   sends all it can       iperfpy kcp-peer HOST:4000 --smux 1 -R
    python tcp_target.py 5400 echo     returns what it reads  iperfpy kcp-peer HOST:4000 --smux 1 --echo

    kcptun-server --listen :4000 --target 127.0.0.1:5400 --crypt none --ds 0 --ps 0 --nocomp
"""

import contextlib
import socketserver
import sys


class Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        mode, read = sys.argv[2:] or ["sink"], 0
        with contextlib.suppress(ConnectionError):
            while mode == ["source"]:
                self.request.sendall(bytes(1 << 16))
            while data := self.request.recv(1 << 16):
                read += len(data)
                if mode == ["echo"]:
                    self.request.sendall(data)
        print(f"{read} bytes read", flush=True)


class Target(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Target(("127.0.0.1", int(sys.argv[1])), Connection) as target, contextlib.suppress(KeyboardInterrupt):
    target.serve_forever()
