"""The job that sets GitLab up: what it makes, what it makes once, and what people's it leaves alone."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import gitlab
import pytest

from dap.jobs import gitlab as job
from dap.jobs.gitlab.client import GitlabError
from dap.jobs.report import Report
from tests.gitlab_double.local import LocalDouble
from tests.gitlab_double.server import clock, passwords
from tests.gitlab_double.server.api import tokens
from tests.gitlab_double.server.records import PersonalAccessToken, Pipeline, User

TOKEN = "glpat-what-the-platform-has-in-its-store"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0kXfeuQUGrVxPzNYTMXCr1zvqYzyOn1D5C5zXk1a2b"
FIRST = "What-ada-logs-in-with-first"
EXAMPLE = {
    "name": "example",
    "summary": "An example",
    "files": [
        {
            "path": path,
            "content": base64.b64encode(content.encode()).decode(),
            "executable": path.endswith(".sh"),
        }
        for path, content in {
            ".gitlab-ci.yml": "look: {script: [ls]}\n",
            "README.md": "# Example\n",
            "bin/run.sh": "#!/bin/sh\n",
        }.items()
    ],
}


def person(name: str = "ada", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "full_name": name.title(),
        "email": f"{name}@dap.example.com",
        "admin": None,
        "password": FIRST,
        "keys": [],
        "disabled": False,
    } | more


def variable(key: str, value: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "value": value, "masked": False, "file": False} | more


def group(path: str = "demo", **more: Any) -> dict[str, Any]:
    return {"path": path, "summary": "First steps", "members": {}, "variables": [], "examples": False} | more


@pytest.fixture
def admin(double: LocalDouble) -> gitlab.Gitlab:
    """What the job logs in with, and a client with the same token to look with."""
    root = double.store.first(User, username="root")
    assert root
    ends = str(clock.today() + timedelta(days=100))
    values = PersonalAccessToken(user_id=root.id, name="platform", scopes=["api"], expires_at=ends)
    tokens.save(double.store, values, TOKEN)
    client = gitlab.Gitlab(double.url, private_token=TOKEN, keep_base_url=True)
    client.session.trust_env = False
    client.auth()
    return client


def provisioned(double: LocalDouble, *, check: bool = False, **state: Any) -> Report:
    address = urlsplit(double.url)
    wanted = {
        **{"service": "gitlab", "host": address.hostname, "port": address.port, "name": address.netloc},
        **{"token": TOKEN, "token_key": "gitlab.api_token", "admin_email": "admin@team.example.com"},
        **{"users": [], "variables": [], "groups": [], "examples": []},
        "runners": {"prefix": "dap/", "seal": "", "wanted": []},
        **state,
    }
    report = Report(check=check)
    job.provision(wanted, report)
    return report


def changes(double: LocalDouble, **state: Any) -> list[str]:
    """What the job changes: a check says the same before, and nothing is left to do afterwards."""
    told = provisioned(double, check=True, **state).changed
    made = provisioned(double, **state).changed
    assert told == made
    assert provisioned(double, **state).changed == []
    return made


@pytest.fixture
def begun(double: LocalDouble, admin: gitlab.Gitlab) -> LocalDouble:
    """A GitLab whose settings were made."""
    provisioned(double)
    return double


def test_settings_close_gitlab_and_later_only_sign_up_stays_closed(
    double: LocalDouble, admin: gitlab.Gitlab
) -> None:
    first, address = changes(double)
    assert first.startswith("gitlab: settings changed: signup_enabled, ")
    assert address == "gitlab: e-mail address of root set to admin@team.example.com"
    settings = admin.settings.get()
    assert (settings.signup_enabled, settings.gravatar_enabled, settings.auto_devops_enabled) == (
        *(False, False, False),
    )
    assert settings.restricted_visibility_levels == ["public"]
    assert admin.users.get(1).email == "admin@team.example.com"
    admin.settings.update(new_data={"gravatar_enabled": True, "signup_enabled": True})
    admin.users.update(1, {"email": "root@team.example.com"})
    assert changes(double) == ["gitlab: settings changed: signup_enabled"]
    assert admin.settings.get().gravatar_enabled
    assert admin.users.get(1).email == "root@team.example.com"


def test_user_is_made_with_a_password_that_has_to_be_changed(
    begun: LocalDouble, admin: gitlab.Gitlab
) -> None:
    users = [person(keys=[f"{KEY} ada@laptop"], admin=True), person("bob", password="")]
    assert changes(begun, users=users) == [
        "gitlab: user ada added",
        "gitlab: SSH key of ada added: ada@laptop",
        "gitlab: user bob added",
    ]
    ada, bob = (begun.store.first(User, username=name) for name in ("ada", "bob"))
    assert ada
    assert bob
    assert (ada.name, ada.email, ada.admin) == ("Ada", "ada@dap.example.com", True)
    assert passwords.matches(FIRST, ada.password)
    assert ada.password_expires_at
    assert not bob.admin
    assert not passwords.matches("", bob.password)


def test_user_whose_making_was_interrupted_is_finished(begun: LocalDouble, admin: gitlab.Gitlab) -> None:
    values = {"username": "ada", "name": "Ada", "email": "a@example.com", "force_random_password": True}
    admin.users.create({**values, "note": "Being made by the Data Analysis Platform"})
    assert changes(begun, users=[person()]) == ["gitlab: password of ada set"]
    ada = begun.store.first(User, username="ada")
    assert ada
    assert passwords.matches(FIRST, ada.password)


def test_what_people_have_changed_stays(begun: LocalDouble, admin: gitlab.Gitlab) -> None:
    own = {
        "username": "Ada",
        "name": "A. L.",
        "email": "countess@example.com",
        "password": "her-own-Secret-1",
    }
    ada = admin.users.create(own)
    ada.keys.create({"title": "hers", "key": KEY})
    demo = admin.groups.create({"name": "Our demo", "path": "demo", "description": "Ours"})
    demo.members.create({"user_id": ada.id, "access_level": 50})
    demo.variables.create({"key": "S3_BUCKET", "value": "elsewhere"})
    wanted = group(members={"ada": "developer"}, variables=[variable("S3_BUCKET", "demo")])
    assert changes(begun, users=[person(keys=[f"{KEY} again"])], groups=[wanted]) == []
    kept = begun.store.first(User, username="Ada")
    assert kept
    assert passwords.matches("her-own-Secret-1", kept.password)
    assert (kept.name, kept.email) == ("A. L.", "countess@example.com")
    assert admin.groups.get("demo").description == "Ours"


def test_administrators_are_made_as_the_configuration_says(begun: LocalDouble, admin: gitlab.Gitlab) -> None:
    provisioned(begun, users=[person()])
    assert changes(begun, users=[person(admin=True)]) == ["gitlab: user ada made an administrator"]
    assert changes(begun, users=[person()]) == []
    assert changes(begun, users=[person(admin=False)]) == ["gitlab: user ada no longer an administrator"]


def test_user_is_disabled_and_back_again(begun: LocalDouble, admin: gitlab.Gitlab) -> None:
    assert changes(begun, users=[person(disabled=True)]) == []
    provisioned(begun, users=[person()])
    assert changes(begun, users=[person(disabled=True)]) == ["gitlab: user ada blocked"]
    assert changes(begun, users=[person()]) == ["gitlab: user ada unblocked"]
    admin.users.get(admin.users.list(username="ada")[0].id).block()
    admin.users.update(admin.users.list(username="ada")[0].id, {"note": "on leave"})
    # An administrator has done that, and knows why.
    assert changes(begun, users=[person()]) == []


def test_group_gets_members_and_variables(begun: LocalDouble, admin: gitlab.Gitlab) -> None:
    users = [person(), person("bob")]
    secret = variable("AWS_SECRET_ACCESS_KEY", "A" * 40, masked=True)
    wanted = group(
        members={"ada": "maintainer", "bob": "developer"}, variables=[secret, variable("S3_BUCKET", "demo")]
    )
    assert changes(begun, users=users, groups=[wanted]) == [
        "gitlab: user ada added",
        "gitlab: user bob added",
        "gitlab: group demo added",
        "gitlab: group demo: ada is maintainer",
        "gitlab: group demo: bob is developer",
        "gitlab: group demo: variable AWS_SECRET_ACCESS_KEY set",
        "gitlab: group demo: variable S3_BUCKET set",
    ]
    demo = admin.groups.get("demo")
    assert (demo.visibility, demo.description) == ("private", "First steps")
    levels = {member.username: member.access_level for member in demo.members.list(get_all=True)}
    assert levels == {"root": 50, "ada": 40, "bob": 30}
    kept = {one.key: one for one in demo.variables.list(get_all=True)}
    assert (kept["AWS_SECRET_ACCESS_KEY"].masked, kept["AWS_SECRET_ACCESS_KEY"].protected) == (True, False)
    raised = group(
        members={"ada": "developer", "bob": "maintainer"}, variables=[{**secret, "value": "B" * 40}]
    )
    assert changes(begun, users=users, groups=[raised]) == [
        "gitlab: group demo: bob is maintainer",
        "gitlab: group demo: variable AWS_SECRET_ACCESS_KEY set",
        "gitlab: group demo: variable S3_BUCKET removed",
    ]


def test_variables_of_everybody(begun: LocalDouble, admin: gitlab.Gitlab) -> None:
    admin.variables.create({"key": "OWN", "value": "somebody's"})
    wanted = [
        variable("DAP_CA_FILE", "-----BEGIN\nabc\n", file=True),
        variable("AWS_ENDPOINT_URL", "https://s3"),
    ]
    assert changes(begun, variables=wanted) == [
        "gitlab: variable DAP_CA_FILE set",
        "gitlab: variable AWS_ENDPOINT_URL set",
    ]
    assert admin.variables.get("DAP_CA_FILE").variable_type == "file"
    assert changes(begun, variables=wanted[:1]) == ["gitlab: variable AWS_ENDPOINT_URL removed"]
    assert {one.key for one in admin.variables.list(get_all=True)} == {"OWN", "DAP_CA_FILE"}


def test_example_is_put_there_once_and_is_theirs_then(begun: LocalDouble, admin: gitlab.Gitlab) -> None:
    state = {"groups": [group(examples=True)], "examples": [EXAMPLE]}
    assert changes(begun, **state) == [
        "gitlab: group demo added",
        "gitlab: group demo: example project example added",
    ]
    project = admin.projects.get("demo/example")
    assert (project.default_branch, project.visibility) == ("main", "private")
    paths = {entry["path"] for entry in project.repository_tree(recursive=True, get_all=True)}
    assert {".gitlab-ci.yml", "README.md", "bin/run.sh"} <= paths
    assert project.files.get("README.md", ref="main").decode() == b"# Example\n"
    # Nobody has asked for a pipeline.
    assert begun.store.find(Pipeline) == []
    file = project.files.get("README.md", ref="main")
    file.content = "ours"
    file.save(branch="main", commit_message="ours")
    assert changes(begun, **state) == []
    assert project.files.get("README.md", ref="main").decode() == b"ours"
    project.delete()
    assert changes(begun, **state) == []
    another = {**EXAMPLE, "name": "second"}
    assert changes(begun, **(state | {"examples": [EXAMPLE, another]})) == [
        "gitlab: group demo: example project second added"
    ]
    assert admin.groups.get("demo").variables.get("DAP_EXAMPLES").value == "example second"


def test_example_whose_making_was_interrupted_is_finished(begun: LocalDouble, admin: gitlab.Gitlab) -> None:
    demo = admin.groups.create({"name": "demo", "path": "demo"})
    made = admin.projects.create({"name": "example", "namespace_id": demo.id})
    state = {"groups": [group(examples=True)], "examples": [EXAMPLE]}
    assert changes(begun, **state) == ["gitlab: group demo: example project example added"]
    assert admin.projects.get(made.id).files.get("README.md", ref="main").decode() == b"# Example\n"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"users": [person(), person("bob", email="ADA@dap.example.com")]},
            "user bob: GitLab answered 409: Email has already been taken",
        ),
        (
            {"users": [person(), person("bob", keys=[f"{KEY} b"]), person("eve", keys=[f"{KEY} e"])]},
            "user eve: GitLab answered 400: {'fingerprint_sha256': ['has already been taken']}",
        ),
        (
            {"users": [person("demo")], "groups": [group()]},
            'group demo: GitLab answered 400: Failed to save group {:path=>["has already been taken"]}',
        ),
    ],
)
def test_refusals_say_what_and_why(
    begun: LocalDouble, admin: gitlab.Gitlab, state: dict[str, Any], message: str
) -> None:
    with pytest.raises(GitlabError) as caught:
        provisioned(begun, **state)
    assert str(caught.value) == message
