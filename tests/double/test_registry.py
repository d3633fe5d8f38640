"""Tokens for the container registry."""

from __future__ import annotations

import base64
import json
from typing import Any

import gitlab
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from gitlab.v4.objects import Project

from tests.gitlab_double.fake_runner import FakeRunner
from tests.gitlab_double.local import LocalDouble
from tests.gitlab_double.server.registry_tokens import CERTIFICATE, key_id


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims(double: LocalDouble, token: str) -> dict[str, Any]:
    """What a token says, after its signature was checked against the certificate that the registry has."""
    head, body, signature = token.split(".")
    file = double.double.site.state / CERTIFICATE
    key = x509.load_pem_x509_certificate(file.read_bytes()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(decoded(head)) == {"typ": "JWT", "alg": "RS256", "kid": key_id(key)}
    said: dict[str, Any] = json.loads(decoded(body))
    return said


def granted(double: LocalDouble, name: str, password: str, scope: str) -> list[str] | int:
    """The actions that a login gets on ``team/data``, or the status that it is refused with."""
    answer = double.ask(
        "GET",
        "/jwt/auth",
        params={"service": "container_registry", "scope": scope},
        auth=(name, password) if name else None,
    )
    if answer.status_code != 200:
        return answer.status_code
    access = claims(double, answer.json()["token"])["access"]
    return list(access[0]["actions"]) if access else []


ALL = "repository:team/data/image:pull,push"


def test_token_is_signed_with_the_key_that_the_registry_trusts(double: LocalDouble, project: Project) -> None:
    answer = double.ask(
        "GET",
        "/jwt/auth",
        params={"service": "container_registry", "scope": ALL},
        auth=("root", double.token()),
    )
    said = claims(double, answer.json()["token"])
    assert (said["iss"], said["aud"], said["sub"]) == ("omnibus-gitlab-issuer", "container_registry", "root")
    assert said["access"] == [{"type": "repository", "name": "team/data/image", "actions": ["pull", "push"]}]


def test_rights_in_the_registry_are_those_in_the_project(
    double: LocalDouble, root: gitlab.Gitlab, project: Project
) -> None:
    for name, level in {"reporter": 20, "developer": 30, "stranger": 0}.items():
        about = {"username": name, "name": name, "email": f"{name}@x.test", "password": "Long-enough-1"}
        number = root.users.create(about).id
        if level:
            project.members.create({"user_id": number, "access_level": level})
    assert granted(double, "developer", "Long-enough-1", ALL) == ["pull", "push"]
    assert granted(double, "reporter", "Long-enough-1", ALL) == ["pull"]
    assert granted(double, "stranger", "Long-enough-1", ALL) == []
    assert granted(double, "developer", "wrong", ALL) == 401
    assert granted(double, "", "", ALL) == 403


def test_project_that_is_not_there_gives_no_rights(double: LocalDouble) -> None:
    assert granted(double, "root", double.token(), "repository:no/such:pull") == []


def test_deploy_token_gives_what_it_was_made_for(double: LocalDouble, project: Project) -> None:
    made = project.deploytokens.create({"name": "pull", "scopes": ["read_registry"]})
    assert granted(double, made.username, made.token, ALL) == ["pull"]


def test_running_job_pushes_to_its_project(
    double: LocalDouble, root: gitlab.Gitlab, project: Project, runner: FakeRunner
) -> None:
    root.projects.create({"name": "other"})
    about = {"branch": "main", "commit_message": "CI"}
    project.files.create({"file_path": ".gitlab-ci.yml", "content": "a: {script: x}", **about})
    job = runner.take()
    assert granted(double, "gitlab-ci-token", job["token"], ALL) == ["pull", "push"]
    assert granted(double, "gitlab-ci-token", job["token"], "repository:root/other:pull,push") == ["pull"]
    runner.end(job)
    assert granted(double, "gitlab-ci-token", job["token"], ALL) == 401


@pytest.mark.parametrize("path", ["/v1/", "/"])
def test_registry_has_its_own_addresses_only(double: LocalDouble, path: str) -> None:
    answer = double.ask("GET", path, headers={"Host": "registry.test"})
    assert answer.json() == {"errors": [{"code": "NAME_UNKNOWN"}]}
