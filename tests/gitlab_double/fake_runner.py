"""A runner as far as its talk with the coordinator goes. It runs nothing: a test says what each job did."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import httpx

from .local import LIMIT_S


class FakeRunner:
    """Asks for jobs with a runner's token.

    Args:
        url: of the double.
        token: of the runner, ``glrt-…``.
    """

    def __init__(self, url: str, token: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v4", trust_env=False, timeout=LIMIT_S)
        self._token = token
        self.last_update = ""

    def verify(self) -> httpx.Response:
        return self._client.post("/runners/verify", json={"token": self._token, "system_id": "s_1"})

    def request(self) -> httpx.Response:
        """Ask for a job and remember what the answer says of news."""
        info = {"name": "fake", "version": "19.4.0", "platform": "linux", "executor": "docker"}
        body = {"token": self._token, "system_id": "s_1", "info": info, "last_update": self.last_update}
        answer = self._client.post("/jobs/request", json=body)
        self.last_update = answer.headers.get("X-GitLab-Last-Update", "")
        return answer

    def take(self) -> dict[str, Any]:
        """The next job, which has to be there."""
        self.last_update = ""
        answer = self.request()
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def trace(self, job: dict[str, Any], text: str, first: int = 0) -> httpx.Response:
        content = text.encode()
        span = f"{first}-{first + len(content) - 1}"
        headers = {"JOB-TOKEN": job["token"], "Content-Range": span, "Content-Type": "text/plain"}
        return self._client.patch(f"/jobs/{job['id']}/trace", content=content, headers=headers)

    def end(self, job: dict[str, Any], state: str = "success", **more: Any) -> httpx.Response:
        body = {"token": job["token"], "state": state, **more}
        return self._client.put(f"/jobs/{job['id']}", json=body)

    def upload(self, job: dict[str, Any], **files: str) -> httpx.Response:
        """Files, by their names, as the artifacts of a job."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for name, content in files.items():
                file.writestr(name, content)
        return self._client.post(
            f"/jobs/{job['id']}/artifacts",
            params={"artifact_format": "zip", "artifact_type": "archive", "expire_in": "1 week"},
            headers={"JOB-TOKEN": job["token"]},
            files={"file": ("artifacts.zip", archive.getvalue())},
        )

    def download(self, job: int, token: str) -> httpx.Response:
        return self._client.get(f"/jobs/{job}/artifacts", headers={"JOB-TOKEN": token})

    def run(self, state: str = "success", **more: Any) -> str:
        """Take a job and end it at once; its name."""
        job = self.take()
        assert self.end(job, state, **more).status_code == 200
        return str(job["job_info"]["name"])

    def close(self) -> None:
        self._client.close()
