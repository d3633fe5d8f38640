"""The administrator's password and the environments of one Portainer server.

The API is documented at https://docs.portainer.io/api/docs and
https://docs.portainer.io/admin/environments/add/api; the numbers below are those of its source,
https://github.com/portainer/portainer (``api/http/handler/endpoints/endpoint_create.go``).
"""

from __future__ import annotations

import http.client
import json
import secrets
from typing import Any

from .report import Report

_TIMEOUT_S = 30
# How an environment is reached: by the server's own Docker socket, or by an agent.
_KINDS = {"socket": "1", "agent": "2"}
_LOCAL_URL = "unix:///var/run/docker.sock"
# What it answers to a wrong user name or password; 403 says that there were too many.
_WRONG_LOGIN = (401, 422)


class PortainerError(Exception):
    """Portainer's answer was not the expected one; the text says to what, and what it was."""


def provision(server: dict[str, Any], report: Report) -> None:
    """Bring password, settings and environments of ``server`` into the desired state.

    Environments that people made are left alone, and so are the names that they gave to the platform's own.

    Raises:
        PortainerError: no known password is accepted, or an environment cannot be reached.
    """
    api = _Api(server["host"], server["port"])
    _log_in(api, server, report)
    service = server["service"]
    report.ensure(
        not api.call("GET", "/settings").get("EnableTelemetry"),
        f"{service}: usage statistics switched off",
        lambda: api.call("PUT", "/settings", {"EnableTelemetry": False}),
    )
    present = api.call("GET", "/endpoints")
    for environment in server["environments"]:
        _environment(api, service, environment, present, report)


def _log_in(api: _Api, server: dict[str, Any], report: Report) -> None:
    """Get a token; where a password from before the current one is in force, the current one is set."""
    user, password = server["user"], server["password"]
    if api.log_in(user, password):
        report.ensure(True, "", lambda: None)
        return
    in_force = next((old for old in server.get("previous", []) if api.log_in(user, old)), None)
    if in_force is None:
        raise PortainerError(
            f"the password of {user} was changed there, and is not known; set it back in Portainer, or as"
            " docs/how-to/use-portainer.md says"
        )

    def change() -> None:
        me = api.call("GET", "/users/me")["Id"]
        api.call("PUT", f"/users/{me}/passwd", {"password": in_force, "newPassword": password})
        # A changed password ends every session, this one too.
        if not api.log_in(user, password):
            raise PortainerError(f"does not accept the password of {user} that was just set")

    report.ensure(False, f"{server['service']}: password of {user} set", change)


def _environment(
    api: _Api, service: str, wanted: dict[str, Any], present: list[dict[str, Any]], report: Report
) -> None:
    name, url = wanted["name"], wanted["url"] or _LOCAL_URL
    # In some versions the addresses come back without their scheme.
    if any(entry["URL"].rpartition("://")[2] == url.rpartition("://")[2] for entry in present):
        report.ensure(True, "", lambda: None)
        return
    same = next((entry for entry in present if entry["Name"] == name), None)
    if same:
        report.ensure(
            False,
            f"{service}: environment {name} moved to {url}",
            lambda: api.call("PUT", f"/endpoints/{same['Id']}", {"URL": url}),
        )
        return
    form = {"Name": name, "EndpointCreationType": _KINDS[wanted["kind"]], "URL": url}
    if wanted["kind"] == "agent":
        # Agents make their certificates themselves, at each start; what both sides know is the secret.
        form |= {"TLS": "true", "TLSSkipVerify": "true", "TLSSkipClientVerify": "true"}
    report.ensure(False, f"{service}: environment {name} added", lambda: api.submit("/endpoints", form))


class _Api:
    """Requests to ``http://host:port/api``, with the token of the last login."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.token = ""

    def log_in(self, user: str, password: str) -> bool:
        """Whether the login is accepted; its token is used from then on."""
        body = json.dumps({"username": user, "password": password}).encode()
        status, answer = self._send("POST", "/auth", body, "application/json")
        if status in _WRONG_LOGIN:
            return False
        self.token = self._expect("POST", "/auth", status, answer)["jwt"]
        return True

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send JSON, if any; what it answers, None for an empty answer."""
        content = json.dumps(body).encode() if body is not None else b""
        return self._expect(method, path, *self._send(method, path, content, "application/json"))

    def submit(self, path: str, form: dict[str, str]) -> Any:
        """Send a form, which is what some addresses take instead of JSON."""
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in form.items()
        ]
        body = "".join([*parts, f"--{boundary}--\r\n"]).encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return self._expect("POST", path, *self._send("POST", path, body, kind))

    def _send(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        headers = {"Content-Type": kind} if body else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, f"/api{path}", body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError as error:
            raise PortainerError(f"{self.host}:{self.port} cannot be asked: {error}") from error
        finally:
            connection.close()

    @staticmethod
    def _expect(method: str, path: str, status: int, answer: bytes) -> Any:
        if not 200 <= status < 300:
            raise PortainerError(f"{method} /api{path} answered {status}: {_said(answer)}")
        return json.loads(answer) if answer.strip() else None


def _said(answer: bytes) -> str:
    """The reason that an error's answer gives, on one line."""
    try:
        error = json.loads(answer)
        words = ": ".join(filter(None, (error.get("message"), error.get("details"))))
    except (ValueError, AttributeError):
        words = answer.decode("utf-8", "replace")
    return " ".join(words.split())[:300] or "nothing"
