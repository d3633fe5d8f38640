"""A real browser, as a user of the platform has it.

It lives in a network of its own, from which a proxy leads to this machine: whenever a container comes or goes
the machine's network changes, and a browser gives up what it loads then.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, ProxySettings, sync_playwright

from tests.packages import installed

CLONE_NEWNET = 0x40000000
# With the loopback alone a browser would tell its pages that it is offline.
UP = (
    "link set lo up",
    "link add outside type veth peer name inside",
    "address add 192.0.2.1/24 dev inside",
    "link set inside up",
    "link set outside up",
)
WRAPPER = """\
#!/bin/sh
exec nsenter --net=/proc/{process}/fd/{network} '{browser}' "$@"
"""


@contextmanager
def running(chromium: Path, folder: Path) -> Iterator[Browser]:
    """Chromium, without what it does by itself.

    Args:
        chromium: the program.
        folder: for what starts it, an empty one.
    """
    installed("ip", "iproute2")
    with ExitStack() as stack:
        network, listening = _network_of_its_own()
        stack.callback(os.close, network)
        stack.enter_context(_passing_on(listening))
        wrapper = folder / "chromium"
        wrapper.write_text(WRAPPER.format(process=os.getpid(), network=network, browser=chromium))
        wrapper.chmod(0o755)
        playwright = stack.enter_context(sync_playwright())
        host, port = listening.getsockname()
        browser = playwright.chromium.launch(
            executable_path=str(wrapper),
            # Names of this machine, too, which a browser otherwise looks for itself.
            proxy=ProxySettings(server=f"http://{host}:{port}", bypass="<-loopback>"),
            args=[
                "--no-sandbox",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        stack.callback(browser.close)
        yield browser


@contextmanager
def visiting(browser: Browser, user: str, password: str, *, seconds: int) -> Iterator[Page]:
    """A page of a user with the platform's login, and how long it is waited for what is to be there."""
    context = browser.new_context(
        # Chromium reads its CAs from the user's NSS store, which tests leave alone; the chain itself is
        # checked by test_clients.
        ignore_https_errors=True,
        http_credentials={"username": user, "password": password},
        viewport={"width": 1280, "height": 900},
    )
    page = context.new_page()
    page.set_default_timeout(seconds * 1000)
    yield page
    context.close()


def _network_of_its_own() -> tuple[int, socket.socket]:
    """A network that leads nowhere: a file that stands for it, and a socket that listens on its loopback."""
    made: list[tuple[int, socket.socket]] = []

    def make() -> None:
        # Of this thread alone, and a socket stays where it was made.
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no network of its own for the browser")
        for command in UP:
            subprocess.run(["ip", *command.split()], check=True)
        listening = socket.create_server(("127.0.0.1", 0))
        made.append((os.open("/proc/thread-self/ns/net", os.O_RDONLY), listening))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


@contextmanager
def _passing_on(listening: socket.socket) -> Iterator[None]:
    """Answer as a proxy for TLS, with connections to this machine, whatever the name."""
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(_pass_on, sock=listening)
        await ended.wait()
        server.close()

    thread = threading.Thread(target=asyncio.Runner(loop_factory=lambda: loop).run, args=(serve(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve a connection; refuse what a browser wants of the world by itself."""
    method, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b" ")
    host, _, port = rest.partition(b" ")[0].decode().rpartition(":")
    if method == b"CONNECT" and host.endswith((".localhost", "127.0.0.1")):
        there = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
    else:
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
