"""Check of MLflow as a client library uses it: a run, metrics, and an artifact through the proxy."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dap.services.manifest import Service
from dap.verify import Place, check, expect

if TYPE_CHECKING:
    import httpx

_EXPERIMENT = "dap-verify"
_ARTIFACT_BYTES = 20 * 1024 * 1024


@check
def tracking(place: Place, service: Service) -> Iterator[str]:
    """A run is logged with metrics and a 20 MB artifact, and read back; then it is deleted again."""
    url = place.site.url(service.manifest.web[0])
    with place.client(login=True) as client:
        api = _Api(client, url)
        experiment = api.experiment()
        run = api.call("runs/create", experiment_id=experiment, start_time=_now(), run_name="verify")["run"]
        run_id = run["info"]["run_id"]
        try:
            metrics = [
                {"key": "loss", "value": 1.0 / (step + 1), "timestamp": _now(), "step": step}
                for step in range(100)
            ]
            api.call("runs/log-batch", run_id=run_id, metrics=metrics)
            history = api.get("metrics/get-history", run_id=run_id, metric_key="loss")["metrics"]
            expect(len(history) == len(metrics), f"{len(history)} of {len(metrics)} metrics came back")
            yield f"{len(history)} metrics"
            _artifact(client, url, run["info"]["artifact_uri"])
            yield "20 MB artifact read back"
            api.call("runs/update", run_id=run_id, status="FINISHED", end_time=_now())
        finally:
            api.call("runs/delete", run_id=run_id)


def _artifact(client: httpx.Client, url: str, artifact_uri: str) -> None:
    expect(
        artifact_uri.startswith("mlflow-artifacts:/"),
        f"artifacts do not go through the server: {artifact_uri}",
    )
    path = artifact_uri.removeprefix("mlflow-artifacts:/")
    target = f"{url}/api/2.0/mlflow-artifacts/artifacts/{path}/verify.bin"
    content = os.urandom(_ARTIFACT_BYTES)
    client.put(target, content=content).raise_for_status()
    digest = hashlib.sha256()
    with client.stream("GET", target) as answer:
        answer.raise_for_status()
        for block in answer.iter_bytes():
            digest.update(block)
    client.delete(target).raise_for_status()
    expect(digest.digest() == hashlib.sha256(content).digest(), "the artifact came back changed")


def _now() -> int:
    return int(time.time() * 1000)


class _Api:
    """MLflow's REST API (https://mlflow.org/docs/latest/rest-api.html)."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self.client = client
        self.base = f"{url}/api/2.0/mlflow"

    def call(self, endpoint: str, **body: Any) -> dict[str, Any]:
        return self._json(self.client.post(f"{self.base}/{endpoint}", json=body))

    def get(self, endpoint: str, **query: str) -> dict[str, Any]:
        return self._json(self.client.get(f"{self.base}/{endpoint}", params=query))

    def experiment(self) -> str:
        """The id of the experiment for verification, created on first use."""
        name = {"experiment_name": _EXPERIMENT}
        found = self.client.get(f"{self.base}/experiments/get-by-name", params=name)
        if found.status_code == 404:
            return str(self.call("experiments/create", name=_EXPERIMENT)["experiment_id"])
        return str(self._json(found)["experiment"]["experiment_id"])

    @staticmethod
    def _json(answer: httpx.Response) -> dict[str, Any]:
        said = f": {answer.text[:200]}" if "json" in answer.headers.get("content-type", "") else ""
        expect(answer.is_success, f"{answer.url.path} answered {answer.status_code}{said}")
        body: dict[str, Any] = answer.json()
        return body
