"""A writer for each way in which the platform is used."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import yaml
from botocore.config import Config
from gitlab.v4.objects import Project

from tests.chaos.writers import Writer, content
from tests.gitlab_runner.container import wait_for
from tests.integration.desks import ALICE, Desks
from tests.integration.platform import DeployedPlatform

# Of whom the container is.
BOX = f"dev-{ALICE}"
TIMEOUT_S = 10
# Of S3: all parts but the last are at least that large.
PART = 5 * 1024**2
PIPELINE = """
write:
  image: {name: IMAGE, entrypoint: [""]}
  variables: {GIT_STRATEGY: none}
  script: echo "$CI_PIPELINE_ID" > written.txt
  artifacts: {paths: [written.txt]}
"""
# A job that was handed to a runner as that was killed is lost: after a while, another is tried.
PIPELINE_S = 30


def web(platform: DeployedPlatform, service: str = "", login: tuple[str, str] | None = None) -> httpx.Client:
    """A client of a web name."""
    return httpx.Client(
        base_url=platform.url(service),
        auth=login,
        verify=platform.trust,
        timeout=TIMEOUT_S,
        trust_env=False,
    )


def missing(numbers: Collection[int], there: Collection[int]) -> list[str]:
    """Which numbers are not there, in words."""
    return [f"{number} is lost" for number in sorted({*numbers} - {*there})]


class Rows(Writer):
    """A COPY in a transaction of its own."""

    name = "COPY of 500 rows"
    needs = frozenset({"postgres-data"})
    shows = frozenset({"postgres-data"})
    rows = 500

    def __init__(self, platform: DeployedPlatform) -> None:
        super().__init__()
        self.platform, self.login = platform, platform.login("Project demo: database")
        with platform.postgres("demo", *self.login) as connection:
            connection.execute("CREATE TABLE chaos (batch int, value bigint)")

    def write(self, number: int) -> None:
        with (
            self.platform.postgres("demo", *self.login) as connection,
            connection.cursor().copy("COPY chaos FROM STDIN") as copy,
        ):
            for row in range(self.rows):
                copy.write_row((number, number * row))

    def wrong(self, numbers: Collection[int]) -> list[str]:
        with self.platform.postgres("demo", *self.login) as connection:
            found = connection.execute(
                "SELECT batch, count(*), sum(value) FROM chaos GROUP BY batch"
            ).fetchall()
        whole = self.rows * (self.rows - 1) // 2
        # What was not acknowledged may be there, but only as a whole.
        torn = [f"{batch} is torn" for batch, *sums in found if sums != [self.rows, batch * whole]]
        return missing(numbers, {batch for batch, *_ in found}) + torn

    def clear(self) -> None:
        with self.platform.postgres("demo", *self.login) as connection:
            connection.execute("DROP TABLE chaos")


class Objects(Writer):
    """A multipart upload."""

    name = "multipart upload of 5 MiB"
    needs = frozenset({"minio", "nginx-proxy"})
    shows = frozenset({"minio", "nginx-proxy"})
    pause = 2.0

    def __init__(self, platform: DeployedPlatform) -> None:
        super().__init__()
        config = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1})
        self.s3 = platform.s3("demo", config=config)

    def write(self, number: int) -> None:
        body = content(self.name, number, PART + 1000)
        where = {"Bucket": "demo", "Key": f"chaos/{number}"}
        upload = self.s3.create_multipart_upload(**where)["UploadId"]
        parts = []
        for part, piece in enumerate((body[:PART], body[PART:]), 1):
            told = self.s3.upload_part(**where, UploadId=upload, PartNumber=part, Body=piece)
            parts.append({"PartNumber": part, "ETag": told["ETag"]})
        self.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})

    def wrong(self, numbers: Collection[int]) -> list[str]:
        return damaged(numbers, self._read, lambda number: content(self.name, number, PART + 1000))

    def clear(self) -> None:
        for number in range(1, 1 + max((one.number for one in self.tries), default=0)):
            self.s3.delete_object(Bucket="demo", Key=f"chaos/{number}")

    def _read(self, number: int) -> bytes:
        return bytes(self.s3.get_object(Bucket="demo", Key=f"chaos/{number}")["Body"].read())


class Metrics(Writer):
    """A metric of a run in MLflow."""

    name = "MLflow metric"
    needs = frozenset({"mlflow", "postgres-service", "nginx-proxy"})
    shows = frozenset({"mlflow", "postgres-service"})

    def __init__(self, platform: DeployedPlatform) -> None:
        super().__init__()
        self.client = web(platform, "mlflow", platform.login("Platform login"))
        begun = self._call("runs/create", experiment_id="0", start_time=1_700_000_000_000)
        self.run = begun["run"]["info"]["run_id"]

    def _call(self, name: str, **fields: Any) -> Any:
        return self.client.post(f"/api/2.0/mlflow/{name}", json=fields).raise_for_status().json()

    def write(self, number: int) -> None:
        self._call(
            "runs/log-metric", run_id=self.run, key="chaos", value=number / 8, timestamp=1, step=number
        )

    def wrong(self, numbers: Collection[int]) -> list[str]:
        query: dict[str, Any] = {"run_id": self.run, "metric_key": "chaos", "max_results": 1000}
        there: dict[int, float] = {}
        while True:
            told = (
                self.client.get("/api/2.0/mlflow/metrics/get-history", params=query).raise_for_status().json()
            )
            there |= {one["step"]: one["value"] for one in told["metrics"]}
            if not (token := told.get("next_page_token")):
                break
            query["page_token"] = token
        return missing(numbers, [step for step, value in there.items() if value == step / 8])


class Artifacts(Writer):
    """An artifact that MLflow's server hands on to the object storage."""

    name = "MLflow artifact of 256 KiB"
    needs = frozenset({"mlflow", "minio", "nginx-proxy"})
    shows = frozenset({"mlflow"})
    pause = 1.0
    size = 256 * 1024

    def __init__(self, platform: DeployedPlatform) -> None:
        super().__init__()
        self.client = web(platform, "mlflow", platform.login("Platform login"))

    def write(self, number: int) -> None:
        body = content(self.name, number, self.size)
        self.client.put(self._path(number), content=body).raise_for_status()

    def wrong(self, numbers: Collection[int]) -> list[str]:
        return damaged(numbers, self._read, lambda number: content(self.name, number, self.size))

    def _read(self, number: int) -> bytes:
        return self.client.get(self._path(number)).raise_for_status().content

    @staticmethod
    def _path(number: int) -> str:
        return f"/api/2.0/mlflow-artifacts/artifacts/chaos/{number}"


class Commits(Writer):
    """A commit by GitLab's API."""

    name = "commit"
    needs = frozenset({"gitlab", "nginx-proxy"})
    shows = frozenset({"gitlab"})
    pause = 2.0

    def __init__(self, project: Project) -> None:
        super().__init__()
        self.project = patient(project)

    def write(self, number: int) -> None:
        action = {"action": "create", "file_path": f"{number}.txt", "content": self._text(number)}
        self.project.commits.create(
            {"branch": "main", "commit_message": f"{number} [skip ci]", "actions": [action]}
        )

    def wrong(self, numbers: Collection[int]) -> list[str]:
        return damaged(
            numbers,
            lambda number: self.project.files.get(f"{number}.txt", "main").decode(),
            lambda number: self._text(number).encode(),
        )

    def _text(self, number: int) -> str:
        return content(self.name, number, 500).hex()


class Pipelines(Writer):
    """A pipeline with an artifact, from its start to its success."""

    name = "pipeline"
    needs = frozenset({"gitlab", "gitlab-runner", "minio", "nginx-proxy"})
    shows = frozenset({"gitlab-runner"})
    pause = 10.0

    def __init__(self, project: Project, image: str) -> None:
        super().__init__()
        self.project = patient(project)
        action = {"action": "create", "file_path": ".gitlab-ci.yml"}
        action["content"] = PIPELINE.replace("IMAGE", image)
        self.project.commits.create(
            {"branch": "main", "commit_message": "Pipeline [skip ci]", "actions": [action]}
        )
        # The jobs that have succeeded, by the number that was written.
        self.jobs: dict[int, tuple[int, int]] = {}

    def write(self, number: int) -> None:
        pipeline = self.project.pipelines.create({"ref": "main"})
        try:
            wait_for(lambda: self._over(pipeline.id), "the pipeline ends", PIPELINE_S)
        except BaseException:
            pipeline.cancel()
            raise
        (job,) = self.project.pipelines.get(pipeline.id).jobs.list(get_all=True)
        if job.status != "success":
            raise ChildProcessError(f"{job.status}, {job.asdict().get('failure_reason')}")
        self.jobs[number] = pipeline.id, job.id

    def _over(self, pipeline: int) -> bool:
        time.sleep(0.3)
        return self.project.pipelines.get(pipeline).status in ("success", "failed", "canceled")

    def wrong(self, numbers: Collection[int]) -> list[str]:
        return damaged(
            numbers,
            lambda number: bytes(self.project.jobs.get(self.jobs[number][1]).artifact("written.txt")),
            lambda number: f"{self.jobs[number][0]}\n".encode(),
        )


class Pushes(Writer):
    """An image of one small layer for the registry, which forgets it when it starts again."""

    name = "image push"
    needs = frozenset({"registry", "nginx-proxy"})
    shows = frozenset({"registry"})
    pause = 2.0
    forgets = True

    def __init__(self, platform: DeployedPlatform) -> None:
        super().__init__()
        store = yaml.safe_load((platform.secrets / "secrets.yml").read_text(encoding="utf-8"))
        self.client = web(platform, "registry", ("dap", store["values"]["registry.password"]))

    def write(self, number: int) -> None:
        layer = content(self.name, number, 64 * 1024)
        digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        upload = self.client.post("/v2/chaos/blobs/uploads/").raise_for_status().headers["Location"]
        binary = {"Content-Type": "application/octet-stream"}
        self.client.put(
            httpx.URL(upload).copy_add_param("digest", digest), content=layer, headers=binary
        ).raise_for_status()
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        part = {"mediaType": "application/octet-stream", "size": len(layer), "digest": digest}
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": part, "layers": [part]}
        self.client.put(
            f"/v2/chaos/manifests/{number}", content=json.dumps(manifest), headers={"Content-Type": kind}
        ).raise_for_status()

    def wrong(self, numbers: Collection[int]) -> list[str]:
        def read(number: int) -> bytes:
            digest = hashlib.sha256(content(self.name, number, 64 * 1024)).hexdigest()
            return self.client.get(f"/v2/chaos/blobs/sha256:{digest}").raise_for_status().content

        return damaged(numbers, read, lambda number: content(self.name, number, 64 * 1024))


class Files(Writer):
    """A file in a home, over SSH."""

    name = "file over SSH"
    needs = frozenset({BOX})
    shows = frozenset({BOX})
    pause = 2.0

    def __init__(self, platform: Desks) -> None:
        super().__init__()
        options = ("-o", f"ConnectTimeout={TIMEOUT_S}", "-o", "ServerAliveInterval=3", "-T")
        self.argv = [*platform.client("alice", "ssh", *options), ALICE]
        self._run("mkdir -p chaos")

    def _run(self, command: str, given: bytes = b"") -> str:
        done = subprocess.run(
            [*self.argv, command], input=given, capture_output=True, timeout=3 * TIMEOUT_S, check=False
        )
        if done.returncode:
            raise ConnectionError(done.stderr.decode().strip())
        return done.stdout.decode()

    def write(self, number: int) -> None:
        self._run(f"cat > chaos/{number}", base64.b64encode(content(self.name, number, 3000)))

    def wrong(self, numbers: Collection[int]) -> list[str]:
        there = {
            line.split()[1]: line.split()[0] for line in self._run("cd chaos && sha256sum *").splitlines()
        }
        return missing(numbers, [number for number in numbers if there.get(str(number)) == self._sum(number)])

    def _sum(self, number: int) -> str:
        return hashlib.sha256(base64.b64encode(content(self.name, number, 3000))).hexdigest()


class Portal(Writer):
    """The start page; somebody who reads."""

    name = "start page"
    needs = frozenset({"portal", "nginx-proxy"})
    shows = frozenset({"portal"})
    pause = 1.0
    address = ("", "/")

    def __init__(self, platform: DeployedPlatform) -> None:
        super().__init__()
        self.client = web(platform, self.address[0])

    def write(self, number: int) -> None:
        self.client.get(self.address[1]).raise_for_status()

    def wrong(self, numbers: Collection[int]) -> list[str]:
        return []


class PgAdmin(Portal):
    """pgAdmin's page to log in."""

    name = "pgAdmin's login page"
    needs = frozenset({"pgadmin", "nginx-proxy"})
    shows = frozenset({"pgadmin"})
    address = ("pgadmin", "/login")


def patient(project: Project) -> Project:
    """The same project, by a client that does not wait for ever."""
    project.manager.gitlab.timeout = TIMEOUT_S
    return project


def damaged(numbers: Collection[int], read: Any, wanted: Any) -> list[str]:
    """What cannot be read of what is numbered, or is something else, in words."""

    def look(number: int) -> str:
        try:
            return "" if read(number) == wanted(number) else f"{number} is damaged"
        except Exception as error:
            return f"{number} is lost: {error}"

    with ThreadPoolExecutor(max_workers=4) as pool:
        return [found for found in pool.map(look, sorted(numbers)) if found]
