"""Start MLflow's tracking server with workers that share their memory.

``mlflow server`` keeps its own process, starts a supervisor, and imports the whole server once per worker:
some 230 MB each. Here the server is imported once, and the workers are forked from it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import sys
import time
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_WORKERS = 2
DATABASE_WAIT_SECONDS = 120
PORT = 5000
KEK_PASSPHRASE_FILE = Path("/run/secrets/kek_passphrase")


class SettingError(Exception):
    """A setting that the server cannot start with; the message is for the operator."""


@dataclass(frozen=True)
class Settings:
    """What the container's environment says.

    Attributes:
        database: SQLAlchemy URL without a password; libpq finds it in PGPASSFILE.
        artifacts: where proxied artifacts go, for example ``s3://mlflow``.
        public_s3: URL by which clients reach the object storage, for example ``https://s3.example.org``.
        allowed_hosts: values of the Host header to accept, ``*`` stands for anything.
        workers: number of processes that answer requests.
    """

    database: str
    artifacts: str
    public_s3: str
    allowed_hosts: tuple[str, ...]
    workers: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read and check the settings.

        Raises:
            SettingError: one is missing or has a value that cannot be used.
        """
        database = _required(environment, "MLFLOW_BACKEND_STORE_URI")
        if not database.startswith("postgresql+psycopg2://"):
            raise SettingError("MLFLOW_BACKEND_STORE_URI must start with postgresql+psycopg2://")
        hosts = tuple(
            host.strip() for host in _required(environment, "MLFLOW_ALLOWED_HOSTS").split(",") if host.strip()
        )
        workers = environment.get("MLFLOW_WORKERS") or str(DEFAULT_WORKERS)
        if not workers.isdigit() or int(workers) < 1:
            raise SettingError(f"MLFLOW_WORKERS is {workers!r}; it must be a number from 1")
        return cls(
            database=database,
            artifacts=_required(environment, "MLFLOW_ARTIFACTS_DESTINATION"),
            public_s3=_required(environment, "MLFLOW_PUBLIC_S3_ENDPOINT_URL"),
            allowed_hosts=hosts,
            workers=int(workers),
        )

    def server_environment(self) -> dict[str, str]:
        """The variables by which ``mlflow server`` hands its options to the server process."""
        return {
            "_MLFLOW_SERVER_FILE_STORE": self.database,
            "_MLFLOW_SERVER_REGISTRY_STORE": self.database,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": self.artifacts,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SERVER_BOOT_ID": uuid.uuid4().hex,
            "_MLFLOW_SGI_NAME": "uvicorn",
            "_MLFLOW_IN_JOB_EXECUTOR": "false",
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(self.allowed_hosts),
            # Browsers send an Origin with every POST, also to the page's own host. Without this the
            # web interface gets 403 "Cross-origin request blocked" behind a proxy.
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"https://{host}" for host in self.allowed_hosts),
        }


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise SettingError(f"{name} is not set")
    return value


def read_kek_passphrase(path: Path) -> dict[str, str]:
    """The key for secrets that MLflow keeps in its database, as its variable; empty without the file.

    Without a passphrase MLflow takes one that is printed in its source code.
    """
    try:
        return {"MLFLOW_CRYPTO_KEK_PASSPHRASE": path.read_text().strip()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error


def wait_for_database(url: str, seconds: float) -> None:
    """Return once the database can be entered; on a first deploy it is created while this waits.

    Raises:
        SettingError: not within ``seconds``.
    """
    import psycopg2
    from sqlalchemy.engine import make_url

    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    deadline = time.monotonic() + seconds
    said = ""
    while True:
        try:
            psycopg2.connect(dsn, connect_timeout=5).close()
            return
        except psycopg2.OperationalError as error:
            reason = " ".join(str(error).split())
        if time.monotonic() > deadline:
            raise SettingError(f"no way into the database after {seconds:.0f} s: {reason}")
        if reason != said:
            print(f"mlflow: waiting for the database: {reason}", file=sys.stderr)
            said = reason
        time.sleep(1)


def prepare_database(settings: Settings) -> None:
    """Create MLflow's tables, or bring those of an older version up to this one's."""
    from mlflow.server.handlers import initialize_backend_stores
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine_with_retry(settings.database)
    if utils._get_schema_version(engine) not in (None, utils._get_latest_schema_revision()):
        utils._upgrade_db(engine)
    initialize_backend_stores(settings.database, settings.database, "mlflow-artifacts:/")


def sign_for_clients(public_url: str) -> None:
    """Sign the addresses that clients are sent to for ``public_url`` instead of the server's own endpoint.

    MLflow's clients move artifacts to and from the object storage themselves where the server offers it, and
    the server always does with S3. The host is part of the signature, so it cannot be rewritten later.
    """
    from mlflow.store.artifact import s3_artifact_repo

    client_for = s3_artifact_repo._get_s3_client

    def client_that_signs_publicly(**options: Any) -> Any:
        client = client_for(**options)
        public = client_for(**options | {"s3_endpoint_url": public_url})
        client.generate_presigned_url = public.generate_presigned_url
        return client

    s3_artifact_repo._get_s3_client = client_that_signs_publicly


def stream_artifacts(app: Any) -> None:
    """Let the bodies of artifact requests pass in pieces.

    MLflow's server holds each body in memory, twice for a moment, before it looks at it: an artifact of 2 GB
    would end the server at its memory limit.
    """
    from a2wsgi import WSGIMiddleware
    from starlette.routing import Mount

    (mount,) = [route for route in app.routes if isinstance(route, Mount)]
    buffered: Any = mount.app
    streamed: Any = WSGIMiddleware(buffered.app, workers=16)

    async def choose(scope: Any, receive: Any, send: Any) -> None:
        is_artifact = scope["type"] == "http" and "/mlflow-artifacts/artifacts/" in scope["path"]
        await (streamed if is_artifact else buffered)(scope, receive, send)

    mount.app = choose


def empty_scratch(folder: Path) -> None:
    """Remove what requests that were cut off by the end of the last server have left."""
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def serve(settings: Settings) -> None:
    """Import the server and answer requests until a signal ends it."""
    # uvicorn first: MLflow turns its host and origin checks on only where it finds a server imported.
    import uvicorn
    import uvicorn._subprocess
    from uvicorn.supervisors import Multiprocess

    # MLflow's own use of a deprecated part of its framework; nothing to be done about it here.
    warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")
    from mlflow.server.fastapi_app import app

    sign_for_clients(settings.public_s3)
    stream_artifacts(app)
    fork = multiprocessing.get_context("fork")
    # In a child, so that no database connection is open in the process that the workers are forked from.
    setup = fork.Process(target=prepare_database, args=(settings,))
    setup.start()
    setup.join()
    if setup.exitcode != 0:
        raise SettingError("the database could not be prepared; the lines above say why")

    uvicorn._subprocess.spawn = fork  # type: ignore[assignment]
    # What is there now stays for good. The collector would write to it and so undo the sharing.
    gc.collect()
    gc.freeze()
    config = uvicorn.Config(
        app,
        host="0.0.0.0",  # noqa: S104 - the container's own network is the limit
        port=PORT,
        workers=settings.workers,
        # With asyncio's own loop and h11 each small request of a client stalls for 45 ms.
        loop="uvloop",
        http="httptools",
        access_log=False,
        # MLflow's own framework sends one too, and the proxy warns of each second one.
        date_header=False,
        forwarded_allow_ips="*",
        timeout_graceful_shutdown=10,
    )
    Multiprocess(config, sockets=[config.bind_socket()]).run()


def main() -> int:
    """Start the server; 78 (EX_CONFIG) with one line where it cannot."""
    try:
        settings = Settings.from_environment(os.environ)
        os.environ |= settings.server_environment() | read_kek_passphrase(KEK_PASSPHRASE_FILE)
        empty_scratch(Path(os.environ["TMPDIR"]))
        wait_for_database(settings.database, DATABASE_WAIT_SECONDS)
        serve(settings)
    except SettingError as error:
        print(f"mlflow: {error}", file=sys.stderr)
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main())
