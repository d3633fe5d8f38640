"""The door to a development container's page: it costs little while nobody comes, and opens JupyterLab then.

It ends the TLS of the platform's proxy, lets in who brings the container's token, starts JupyterLab, or VS
Code below /code/, where it does not run, and passes bytes in both ways. Nothing of them is kept: a side that
is slow slows the other. Modules that cost memory are imported when the first visitor comes.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time

# Not at run time: it costs memory.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    import subprocess

PORT = 8888
RUN = "/run/jupyter"
JUPYTER = f"{RUN}/socket"
CODE = f"{RUN}/code"
# VS Code is the host's, and in containers that are to have it.
CODE_SERVER = "/opt/code-server"
CODE_PATH = b"/code/"
TOKEN, PAIR = "/run/dap/page_token", "/run/dap/page.pem"
MOST_VISITORS = 200
LARGEST_HEAD = 64 * 1024
PIECE = 64 * 1024
HEAD_SECONDS, START_SECONDS, END_SECONDS = 30, 120, 10
HOME_SECONDS = 3600
PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font-family: sans-serif; margin: 4rem auto; max-width: 40rem">
<h1>{title}</h1><p>{reason}</p>
"""


class ClosedError(Exception):
    """This visitor gets a page that says why there is nothing else."""

    def __init__(self, status: str, title: str, reason: str) -> None:
        super().__init__(reason)
        body = PAGE.format(title=title, reason=reason).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n"
        self.answer = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


class MovedError(ClosedError):
    """This visitor is told where to go."""

    def __init__(self, path: bytes) -> None:
        super().__init__("302 Found", "Elsewhere", "")
        head = b"HTTP/1.1 302 Found\r\nLocation: " + path + b"\r\nContent-Length: 0\r\n"
        self.answer = head + b"Connection: close\r\n\r\n"


class Program:
    """What is behind the door, on a socket that only the user can reach: JupyterLab.

    Attributes:
        title: what the user knows it as.
        socket: where it listens.
        by_hand: what says the same as its log, for who has SSH.
    """

    title = "JupyterLab"
    by_hand = "jupyter lab --no-browser"

    def __init__(self) -> None:
        self.socket = JUPYTER
        self.starting = threading.Lock()
        self.child: subprocess.Popen[bytes] | None = None

    def connected(self) -> socket.socket | None:
        """A connection to it; nothing where it does not answer."""
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.socket)
        except OSError:
            server.close()
            return None
        return server

    def opened(self) -> socket.socket:
        """A connection to it; it is started where it does not run."""
        with self.starting:
            if server := self.connected():
                return server
            child = self.start()
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline:
                if server := self.connected():
                    return server
                if child.poll() is not None:
                    break
                time.sleep(0.05)
        raise ClosedError(
            "502 Bad Gateway",
            f"{self.title} does not start",
            "Its last lines are in the log of the container, which your platform's administrators can show."
            f" Over SSH, <code>{self.by_hand}</code> says the same.",
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, after the end of one that listens no more."""
        import subprocess

        if self.child is not None:
            try:
                self.child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        home = os.environ["HOME"]
        argv, more = self.command(home)
        try:
            self.child = subprocess.Popen(  # noqa: S603  our own argv, no shell
                argv, cwd=home, env={**os.environ, **more}, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            print(f"door: {argv[0]} cannot be started: {error.strerror}", file=sys.stderr, flush=True)
            raise self.missing() from error
        return self.child

    def missing(self) -> ClosedError:
        """What a visitor is told where there is no such program."""
        return ClosedError(
            "502 Bad Gateway",
            "No JupyterLab here",
            f"The environment <code>{os.environ.get('DAP_ENVIRONMENT', '')}</code> of this container"
            " has no JupyterLab. SSH works.",
        )

    def command(self, home: str) -> tuple[list[str], dict[str, str]]:
        """What is run, and with which variables besides."""
        settings: dict[str, object] = {
            "ServerApp.sock": self.socket,
            "ServerApp.sock_mode": "0600",
            "ServerApp.root_dir": home,
            "ServerApp.open_browser": False,
            # Who comes has passed the proxy, which knows the names.
            "ServerApp.allow_remote_access": True,
            "ServerApp.trust_xheaders": True,
            # Nobody gets to the socket but through this door. With a token its pages would take that along in
            # place of the platform login, and it would not look where a request comes from.
            "IdentityProvider.token": "",
        }
        if idle := os.environ.get("DAP_IDLE_SECONDS"):
            # It knows best which of its kernels are at work.
            settings |= {
                "MappingKernelManager.cull_idle_timeout": idle,
                "MappingKernelManager.cull_connected": True,
                "MappingKernelManager.cull_interval": 60,
                "TerminalManager.cull_inactive_timeout": idle,
                "TerminalManager.cull_interval": 60,
                "ServerApp.shutdown_no_activity_timeout": idle,
            }
        # What it writes while it runs is not for the home, whose disk may be full.
        environment = {"JUPYTER_RUNTIME_DIR": f"{RUN}/runtime"}
        return ["jupyter-lab", *(f"--{name}={value}" for name, value in settings.items())], environment


class Code(Program):
    """VS Code in the browser."""

    title = "VS Code"

    def __init__(self) -> None:
        super().__init__()
        self.socket = CODE
        self.by_hand = f"{CODE_SERVER}/bin/code-server"

    def missing(self) -> ClosedError:
        """What a visitor is told where there is no such program."""
        return ClosedError(
            "404 Not Found",
            "No VS Code here",
            "This container was made without VS Code. Your platform's administrators can give it to you.",
        )

    def command(self, home: str) -> tuple[list[str], dict[str, str]]:
        """What is run, and with which variables besides."""
        # The door and the platform login say who comes; nobody else's files say how it runs.
        settings = ["--auth=none", f"--socket={self.socket}", "--socket-mode=600", "--config=/dev/null"]
        settings += [f"--session-socket={RUN}/code_session", "--disable-telemetry", "--disable-update-check"]
        settings += ["--disable-getting-started-override", "--disable-workspace-trust"]
        return [f"{CODE_SERVER}/bin/code-server", *settings, home], {}


class Door:
    """Where visitors come in."""

    def __init__(self) -> None:
        self.room = threading.Semaphore(MOST_VISITORS)
        self.opening = threading.Lock()
        self.jupyter, self.code = Program(), Code()
        self.tls: ssl.SSLContext | None = None
        self.home_seen: float | None = None

    def serve(self) -> None:
        """Let visitors in, for ever."""
        os.makedirs(RUN, mode=0o700, exist_ok=True)
        listener = socket.create_server(("0.0.0.0", PORT), backlog=128)  # noqa: S104  the proxy is outside
        while True:
            self.room.acquire()
            connection, _ = listener.accept()
            try:
                threading.Thread(target=self.visit, args=(connection,), daemon=True).start()
            except RuntimeError:
                # There are as many processes as there may be.
                connection.close()
                self.room.release()

    def visit(self, connection: socket.socket) -> None:
        """One visitor, from the first byte to the last."""
        try:
            connection.settimeout(HEAD_SECONDS)
            with self.context().wrap_socket(connection, server_side=True) as visitor:
                try:
                    program, head = self.way(read_head(visitor))
                    server = program.opened()
                    self.see_home()
                except ClosedError as closed:
                    visitor.sendall(closed.answer)
                    return
                with server:
                    pass_on(visitor, server, head)
        except OSError:
            # Gone, or never one who speaks TLS.
            pass
        finally:
            connection.close()
            self.room.release()

    def context(self) -> ssl.SSLContext:
        """What TLS is ended with."""
        with self.opening:
            if self.tls is None:
                import ssl

                self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self.tls.minimum_version = ssl.TLSVersion.TLSv1_3
                self.tls.load_cert_chain(PAIR)
            return self.tls

    def way(self, head: bytes) -> tuple[Program, bytes]:
        """What a request is for, and the request as that takes it."""
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path.startswith(CODE_PATH):
            # Its pages name one another by where they are, and know nothing of what is before that.
            return self.code, method + b" " + rest[len(CODE_PATH) - 1 :]
        if path == CODE_PATH[:-1] or "DAP_NO_JUPYTER" in os.environ:
            raise MovedError(CODE_PATH)
        return self.jupyter, head

    def see_home(self) -> None:
        """Have it seen how much is in the home, now and then: not all who work here come by SSH."""
        import subprocess

        with self.opening:
            now = time.monotonic()
            if self.home_seen is not None and now - self.home_seen < HOME_SECONDS:
                return
            self.home_seen = now
            with contextlib.suppress(OSError):
                subprocess.Popen(
                    ["/bin/sh", "/etc/dap/home.sh"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )


def read_head(visitor: ssl.SSLSocket) -> bytes:
    """The first bytes, up to the end of a request's head, of a visitor who has the token."""
    import hmac

    head = b""
    while b"\r\n\r\n" not in head:
        piece = visitor.recv(PIECE)
        head += piece
        if not piece or len(head) > LARGEST_HEAD:
            raise ClosedError("400 Bad Request", "Bad request", "This is no request that can be understood.")
    with open(TOKEN, "rb") as file:
        wanted = b"token " + file.read()
    lines = head.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    given = [
        value.strip()
        for name, _, value in (line.partition(b":") for line in lines)
        if name.lower() == b"authorization"
    ]
    if len(given) != 1 or not hmac.compare_digest(given[0], wanted):
        raise ClosedError("403 Forbidden", "Not your page", "The platform's proxy is the way in.")
    return head


def pass_on(visitor: ssl.SSLSocket, server: socket.socket, first: bytes) -> None:
    """Pass bytes until one side has ended, at most a piece of them at a time."""
    import ssl

    visitor.setblocking(False)
    server.setblocking(False)
    wait = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
    up, down = memoryview(first), memoryview(b"")
    while True:
        looked_for = [
            (visitor, (select.POLLIN if not up else 0) | (select.POLLOUT if down else 0)),
            (server, (select.POLLIN if not down else 0) | (select.POLLOUT if up else 0)),
        ]
        # What TLS has read already no poll sees.
        if up or not visitor.pending():
            poll = select.poll()
            for side, events in looked_for:
                if events:
                    poll.register(side, events)
            poll.poll()
        try:
            if not up:
                up = memoryview(visitor.recv(PIECE))
                if not up:
                    return
        except wait:
            pass
        try:
            if up:
                up = up[server.send(up) :]
        except wait:
            pass
        try:
            if not down:
                down = memoryview(server.recv(PIECE))
                if not down:
                    visitor.settimeout(HEAD_SECONDS)
                    visitor.unwrap()
                    return
        except wait:
            pass
        try:
            if down:
                down = down[visitor.send(down) :]
        except wait:
            pass


if __name__ == "__main__":
    Door().serve()
