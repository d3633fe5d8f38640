"""The double on a port of this machine, in a thread of the test: no container, no SSH, no registry."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from .server import rails
from .server.access import is_active
from .server.application import Application
from .server.cable import Cable
from .server.double import Double
from .server.records import PersonalAccessToken, User
from .server.registry_tokens import make_key
from .server.site import Site
from .server.stages import READY, Stages

ROOT_PASSWORD = "a-long-enough-Secret-42"
REGISTRY = "registry.test"
LIMIT_S = 20


class LocalDouble:
    """A running double with its first administrator.

    Args:
        folder: where it keeps everything; may hold what an earlier one has left.
        stage: how far its start is said to have come.
        address: of this machine, which it listens on.
    """

    def __init__(self, folder: Path, stage: str = READY, address: str = "127.0.0.1") -> None:
        listener = socket.create_server((address, 0))
        self.url = f"http://{address}:{listener.getsockname()[1]}"
        site = Site(folder, self.url, f"http://{REGISTRY}", ssh_port=2222)
        site.write()
        make_key(site.state)
        self.double = Double(site, stages=Stages(stage))
        self.store = self.double.store
        rails.first_start(self.double, ROOT_PASSWORD)
        config = uvicorn.Config(
            Application(self.double), ws=Cable, lifespan="off", log_level="warning", access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, "the double answers")

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(LIMIT_S)
        self.store.close()

    def token(self, user: User | None = None, *scopes: str) -> str:
        """A token for a user, the administrator where none is named."""
        owner = user or self.store.first(User, username="root")
        assert owner
        text = f"glpat-{owner.username}-{len(self.store.find(PersonalAccessToken))}"
        values = PersonalAccessToken(
            user_id=owner.id, name="test", scopes=list(scopes or ("api",)), expires_at="2999-01-01"
        )
        assert is_active(values)
        from .server.api import tokens

        tokens.save(self.store, values, text)
        return text

    def ask(self, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        """The answer to a request."""
        headers = {"PRIVATE-TOKEN": token} if token else {}
        headers |= more.pop("headers", {})
        with httpx.Client(trust_env=False, timeout=LIMIT_S) as client:
            return client.request(method, self.url + path, headers=headers, **more)

    @property
    def violations(self) -> list[dict[str, str]]:
        return self.double.contract.violations()


def wait_until(condition: Any, what: str, limit_s: float = LIMIT_S) -> Any:
    """What a condition returns as soon as that is true."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.01)
    return found
