"""What GitLab is to be like, made from the configuration: who gets what, and who can read it."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dap.credentials import Credentials
from dap.gitlab.state import gitlab_state
from dap.layout import compose_dir
from dap.secrets import SecretStore
from dap.services.manifest import find_folders, load_services
from dap.site import Site
from tests.unit.platforms import environment_of, service_of, site_of

SERVICES = load_services(find_folders([compose_dir()]))
ADA = {"name": "ada", "full_name": "Ada Lovelace", "email": "ada@example.com", "gitlab_admin": True}
NAMES = ("gitlab", "mlflow", "minio", "postgres-data", "postgres-service")


def site(*names: str, **settings: Any) -> Site:
    return site_of(*(SERVICES[name] for name in names or NAMES), **settings)


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return SecretStore(tmp_path / "secrets.yml", "team")


def state(known: Site, store: SecretStore, trusted: tuple[bytes, ...] = (b"PEM\n",)) -> dict[str, Any]:
    return gitlab_state(known, Credentials(known, store), trusted)


def variables(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in entries}


def test_users_get_what_the_configuration_says(store: SecretStore) -> None:
    users = [
        ADA,
        {"name": "bob", "gitlab_password": False, "ssh_keys": ["ssh-ed25519 AAAA bob"]},
        {"name": "eve", "disabled": True},
        {"name": "web-only", "gitlab_account": False},
    ]
    found = state(site(users=users), store)["users"]
    password = store.all_values()["user.ada.gitlab_password"].reveal()
    assert len(password) == 24
    assert found == [
        {
            **{"name": "ada", "full_name": "Ada Lovelace", "email": "ada@example.com", "admin": True},
            **{"password": password, "keys": [], "disabled": False},
        },
        {
            **{"name": "bob", "full_name": "", "email": "bob@dap.example.com", "admin": None},
            **{"password": "", "keys": ["ssh-ed25519 AAAA bob"], "disabled": False},
        },
        {
            **{"name": "eve", "full_name": "", "email": "eve@dap.example.com", "admin": None},
            **{"password": "", "keys": [], "disabled": True},
        },
    ]


def test_members_are_named_or_everybody_else(store: SecretStore) -> None:
    users = [ADA, {"name": "bob"}, {"name": "eve", "disabled": True}, {"name": "w", "gitlab_account": False}]
    projects = [
        {"name": "demo", "members": {"ada": "maintainer", "*": "developer"}},
        {"name": "own", "members": {"bob": "owner", "eve": "guest"}},
        {"name": "none"},
    ]
    found = state(site(users=users, projects=projects), store)["groups"]
    assert {group["path"]: group["members"] for group in found} == {
        "demo": {"ada": "maintainer", "bob": "developer"},
        "own": {"bob": "owner"},
        "none": {},
    }


def test_secrets_of_a_project_are_variables_of_its_group_only_and_masked(store: SecretStore) -> None:
    found = state(site(projects=[{"name": "demo"}, {"name": "other-team"}]), store)
    everybody = variables(found["variables"])
    secret = store.all_values()
    assert everybody == {
        "DAP_CA_FILE": "PEM\n",
        "MLFLOW_TRACKING_URI": "https://mlflow.dap.example.com",
        "MLFLOW_TRACKING_USERNAME": "ci",
        "MLFLOW_TRACKING_PASSWORD": secret["user.ci.password"].reveal(),
        "AWS_ENDPOINT_URL": "https://s3.dap.example.com",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    demo, other = (variables(group["variables"]) for group in found["groups"])
    assert demo == {
        "AWS_ACCESS_KEY_ID": secret["project.demo.s3_access_key"].reveal(),
        "AWS_SECRET_ACCESS_KEY": secret["project.demo.s3_secret_key"].reveal(),
        "S3_BUCKET": "demo",
        "PGHOST": "postgres-data.dap.example.com",
        "PGPORT": "5432",
        "PGSSLMODE": "verify-full",
        "PGDATABASE": "demo",
        "PGUSER": "demo",
        "PGPASSWORD": secret["project.demo.database"].reveal(),
    }
    assert other["PGDATABASE"] == "other_team"
    places = [found["variables"], *(group["variables"] for group in found["groups"])]
    for entry in (one for place in places for one in place):
        assert entry["masked"] == (entry["value"] in {value.reveal() for value in secret.values()})
        assert entry["file"] == (entry["key"] == "DAP_CA_FILE")


def test_images_of_environments_have_names_for_jobs(store: SecretStore, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    runner = service_of("runner", environments=True)
    chosen = {"r-and-python": environment_of("r-and-python", tmp_path)}
    known = replace(site_of(SERVICES["gitlab"], runner), chosen_environments=chosen)
    (image,) = [one for one in state(known, store)["variables"] if one["key"] != "DAP_CA_FILE"]
    assert image["key"] == "DAP_IMAGE_R_AND_PYTHON"
    assert image["value"].startswith("dap/r-and-python:")


def test_what_is_not_there_is_no_variable(store: SecretStore) -> None:
    found = state(site("gitlab", projects=[{"name": "demo"}]), store, ())
    assert (found["variables"], found["groups"][0]["variables"]) == ([], [])
    # GitLab takes no longer ones.
    assert state(site("gitlab"), store, (b"x" * 10_000, b"y"))["variables"] == []


def test_examples_are_rendered_where_a_project_wants_them(store: SecretStore) -> None:
    assert state(site(projects=[{"name": "demo"}]), store)["examples"] == []
    known = site(projects=[{"name": "demo", "examples": True}], ports={"https": 8443})
    found = {example["name"]: example for example in state(known, store)["examples"]}
    assert sorted(found) == ["environments", "example-pipeline"]
    for name, example in found.items():
        files = {file["path"]: base64.b64decode(file["content"]).decode() for file in example["files"]}
        assert "README.md" in files
        assert not [path for path in files if path.endswith(".j2")]
        assert not [text for text in files.values() if "{{" in text]
        assert example["summary"] in " ".join(files["README.md"].split())
        assert not [file["path"] for file in example["files"] if file["executable"]]
        if name == "environments":
            assert "gitlab-registry.dap.example.com:8443/$CI_PROJECT_NAMESPACE" in files["README.md"]
