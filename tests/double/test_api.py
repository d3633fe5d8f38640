"""The double's API with the client that the product uses."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import urlsplit

import gitlab
import pytest
from gitlab.exceptions import GitlabError

from tests.gitlab_double.local import LocalDouble
from tests.gitlab_double.server.records import User

TOO_LATE = (datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=366)).isoformat()
SOON = (datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=30)).isoformat()


def refusal(error: pytest.ExceptionInfo[GitlabError]) -> tuple[int | None, str]:
    return error.value.response_code, str(error.value.error_message)


def as_user(double: LocalDouble, username: str, *scopes: str) -> gitlab.Gitlab:
    user = double.store.first(User, username=username)
    client = gitlab.Gitlab(double.url, private_token=double.token(user, *scopes), keep_base_url=True)
    client.session.trust_env = False
    return client


def make_user(root: gitlab.Gitlab, username: str) -> int:
    made = root.users.create(
        {
            "username": username,
            "name": username,
            "email": f"{username}@example.com",
            "password": "Long-enough-1",
        }
    )
    return int(made.id)


def test_version_wants_a_token(double: LocalDouble) -> None:
    answer = double.ask("GET", "/api/v4/version")
    assert (answer.status_code, answer.json()) == (401, {"message": "401 Unauthorized"})


def test_version_is_told_to_whoever_has_a_token(root: gitlab.Gitlab) -> None:
    assert root.version() == ("19.4.1", "0a1b2c3d4e5")


def test_revoked_token_is_named_as_such(double: LocalDouble, root: gitlab.Gitlab) -> None:
    token = double.token()
    root.http_delete("/personal_access_tokens/2")
    answer = double.ask("GET", "/api/v4/user", token)
    assert (answer.status_code, answer.json()) == (
        401,
        {
            "error": "invalid_token",
            "error_description": "Token was revoked. You have to re-authorize from the user.",
        },
    )


def test_token_without_the_scope_is_refused(double: LocalDouble) -> None:
    answer = double.ask("GET", "/api/v4/projects", double.token(None, "read_user"))
    assert answer.status_code == 403
    assert answer.json() == {
        "error": "insufficient_scope",
        "error_description": "The request requires higher privileges than provided by the access token.",
        "scope": "api read_api",
    }


def test_name_that_is_taken_is_a_conflict(root: gitlab.Gitlab) -> None:
    make_user(root, "ada")
    with pytest.raises(gitlab.GitlabCreateError) as error:
        root.users.create(
            {"username": "ada", "name": "A", "email": "b@example.com", "password": "Long-enough-1"}
        )
    assert refusal(error) == (409, "Username has already been taken")


def test_user_is_found_by_name(root: gitlab.Gitlab) -> None:
    make_user(root, "ada")
    (found,) = root.users.list(username="ada")
    assert (found.username, found.state, found.is_admin) == ("ada", "active", False)


def test_blocked_user_is_turned_away(double: LocalDouble, root: gitlab.Gitlab) -> None:
    number = make_user(root, "ada")
    assert root.users.get(number).block() is True
    with pytest.raises(gitlab.GitlabGetError) as error:
        as_user(double, "ada").auth()
    assert refusal(error) == (403, "403 Forbidden - Your account has been blocked.")


def test_key_is_added_once_and_shown_to_anybody(double: LocalDouble, root: gitlab.Gitlab) -> None:
    user = root.users.get(make_user(root, "ada"))
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIDa9RyFxCpzQDVjOUmbFxYzfMBLsBBSvJ0Xg7kJQJqL ada"
    user.keys.create({"title": "laptop", "key": key})
    assert [one.title for one in user.keys.list(get_all=True)] == ["laptop"]
    with pytest.raises(gitlab.GitlabCreateError) as error:
        user.keys.create({"title": "again", "key": key})
    assert refusal(error) == (400, "{'fingerprint_sha256': ['has already been taken']}")
    shown = double.ask("GET", "/ada.keys")
    who = f"{user.name} ({urlsplit(double.url).hostname})"
    assert (shown.status_code, shown.text) == (200, key.replace(" ada", f" {who}"))
    assert shown.headers["content-type"] == "text/plain; charset=utf-8"
    assert double.ask("GET", "/bob.keys").status_code == 404


def test_token_shows_once_and_lives_a_year_at_most(root: gitlab.Gitlab) -> None:
    user = root.users.get(make_user(root, "ada"))
    made = user.personal_access_tokens.create({"name": "ci", "scopes": ["api"], "expires_at": SOON})
    assert made.token.startswith("glpat-")
    assert not hasattr(root.personal_access_tokens.list(user_id=user.id)[0], "token")
    with pytest.raises(gitlab.GitlabCreateError) as error:
        user.personal_access_tokens.create({"name": "ci", "scopes": ["api"], "expires_at": TOO_LATE})
    assert refusal(error) == (400, f"{{'expires_at': ['must be before {TOO_LATE}']}}")


def test_rotation_replaces_a_token(double: LocalDouble, root: gitlab.Gitlab) -> None:
    user = root.users.get(make_user(root, "ada"))
    made = user.personal_access_tokens.create({"name": "ci", "scopes": ["api"], "expires_at": SOON})
    fresh = root.personal_access_tokens.get(made.id).rotate()
    assert double.ask("GET", "/api/v4/user", made.token).status_code == 401
    assert double.ask("GET", "/api/v4/user", str(fresh["token"])).json()["username"] == "ada"


def test_settings_are_kept(root: gitlab.Gitlab) -> None:
    settings = root.settings.get()
    settings.signup_enabled = False
    settings.save()
    assert root.settings.get().signup_enabled is False


def test_settings_are_for_administrators(double: LocalDouble, root: gitlab.Gitlab) -> None:
    make_user(root, "ada")
    with pytest.raises(gitlab.GitlabGetError) as error:
        as_user(double, "ada").settings.get()
    assert refusal(error) == (403, "403 Forbidden")


def test_group_path_is_taken_once(root: gitlab.Gitlab) -> None:
    group = root.groups.create({"name": "Team", "path": "team"})
    root.groups.create({"name": "Sub", "path": "team", "parent_id": group.id})
    assert root.groups.get("team/team").full_name == "Team / Sub"
    with pytest.raises(gitlab.GitlabCreateError) as error:
        root.groups.create({"name": "Team", "path": "team"})
    assert refusal(error) == (400, 'Failed to save group {:path=>["has already been taken"]}')


def test_project_is_found_by_its_path(root: gitlab.Gitlab) -> None:
    group = root.groups.create({"name": "Team", "path": "team"})
    made = root.projects.create({"name": "data", "namespace_id": group.id, "initialize_with_readme": True})
    found = root.projects.get("team/data")
    assert (found.id, found.default_branch, found.empty_repo) == (made.id, "main", False)
    assert found.ssh_url_to_repo == "ssh://git@127.0.0.1:2222/team/data.git"
    assert found.container_registry_image_prefix == "registry.test/team/data"


def test_project_that_is_there_is_refused(root: gitlab.Gitlab) -> None:
    root.projects.create({"name": "data"})
    with pytest.raises(gitlab.GitlabCreateError) as error:
        root.projects.create({"name": "data"})
    taken = ["has already been taken"]
    assert refusal(error) == (400, str({"project_namespace.name": taken, "name": taken, "path": taken}))


def test_stranger_does_not_learn_of_a_project(double: LocalDouble, root: gitlab.Gitlab) -> None:
    root.projects.create({"name": "data"})
    make_user(root, "ada")
    with pytest.raises(gitlab.GitlabGetError) as error:
        as_user(double, "ada").projects.get("root/data")
    assert refusal(error) == (404, "404 Project Not Found")


def test_member_exists_once(root: gitlab.Gitlab) -> None:
    group = root.groups.create({"name": "Team", "path": "team"})
    number = make_user(root, "ada")
    group.members.create({"user_id": number, "access_level": 30})
    assert [(one.username, one.access_level) for one in group.members.list(get_all=True)] == [
        ("root", 50),
        ("ada", 30),
    ]
    with pytest.raises(gitlab.GitlabCreateError) as error:
        group.members.create({"user_id": number, "access_level": 30})
    assert refusal(error) == (409, "Member already exists")


def test_member_inherits(double: LocalDouble, root: gitlab.Gitlab) -> None:
    group = root.groups.create({"name": "Team", "path": "team"})
    project = root.projects.create({"name": "data", "namespace_id": group.id})
    group.members.create({"user_id": make_user(root, "ada"), "access_level": 20})
    assert as_user(double, "ada").projects.get(project.id).path == "data"
    assert [one.username for one in project.members_all.list(get_all=True)] == ["root", "ada"]


@pytest.mark.parametrize("place", ["instance", "group", "project"])
def test_variable_exists_once(root: gitlab.Gitlab, place: str) -> None:
    group = root.groups.create({"name": "Team", "path": "team"})
    project = root.projects.create({"name": "data", "namespace_id": group.id})
    places: dict[str, Any] = {"instance": root, "group": group, "project": project}
    variables = places[place].variables
    variables.create({"key": "NAME", "value": "secret-value", "masked": True, "raw": True})
    assert variables.get("NAME").masked is True
    with pytest.raises(gitlab.GitlabCreateError) as error:
        variables.create({"key": "NAME", "value": "x"})
    taken = "has already been taken" if place == "instance" else "(NAME) has already been taken"
    assert refusal(error) == (400, str({"key": [taken]}))


@pytest.mark.parametrize("value", ["short", "with a space", "two\nlines--"])
def test_value_that_cannot_be_masked_is_refused(root: gitlab.Gitlab, value: str) -> None:
    with pytest.raises(gitlab.GitlabCreateError) as error:
        root.variables.create({"key": "NAME", "value": value, "masked": True, "raw": True})
    assert refusal(error) == (400, "{'value': ['is invalid']}")


def test_secret_of_an_application_shows_once(root: gitlab.Gitlab) -> None:
    made = root.applications.create(
        {"name": "portal", "redirect_uri": "https://x.test/callback", "scopes": "openid profile"}
    )
    assert made.secret.startswith("gloas-")
    (listed,) = root.applications.list(get_all=True)
    assert (listed.application_name, hasattr(listed, "secret")) == ("portal", False)
    renewed = root.http_post(f"/applications/{made.id}/renew-secret")
    assert isinstance(renewed, dict)
    assert renewed["secret"] != made.secret


def test_runner_is_made_by_a_user(root: gitlab.Gitlab) -> None:
    assert root.user
    made = root.user.runners.create(
        {
            "runner_type": "instance_type",
            "description": "one",
            "tag_list": ["gpu", "big"],
            "run_untagged": True,
        }
    )
    assert made.token.startswith("glrt-")
    (found,) = root.runners_all.list(get_all=True)
    assert (found.description, found.status, found.online) == ("one", "never_contacted", False)
    assert root.runners.get(found.id).tag_list == ["big", "gpu"]


def test_runner_of_the_instance_is_made_by_administrators(double: LocalDouble, root: gitlab.Gitlab) -> None:
    make_user(root, "ada")
    client = as_user(double, "ada")
    client.auth()
    assert client.user
    with pytest.raises(gitlab.GitlabCreateError) as error:
        client.user.runners.create({"runner_type": "instance_type"})
    assert refusal(error) == (403, "403 Forbidden")


def test_runner_is_paused_and_removed(root: gitlab.Gitlab) -> None:
    assert root.user
    number = root.user.runners.create({"runner_type": "instance_type"}).id
    runner = root.runners.get(number)
    runner.paused = True
    runner.save()
    assert [one.id for one in root.runners_all.list(get_all=True, paused=True)] == [number]
    runner.delete()
    assert root.runners_all.list(get_all=True) == []


def test_list_comes_in_pages(double: LocalDouble, root: gitlab.Gitlab) -> None:
    for number in range(5):
        root.groups.create({"name": f"Team {number}", "path": f"team{number}"})
    answer = double.ask("GET", "/api/v4/groups?per_page=2&page=2", double.token())
    headers = {name: value for name, value in answer.headers.items() if name.startswith(("x-", "link"))}
    page = f"{double.url}/api/v4/groups?page={{}}&per_page=2"
    assert headers == {
        "x-page": "2",
        "x-per-page": "2",
        "x-next-page": "3",
        "x-prev-page": "1",
        "x-total": "5",
        "x-total-pages": "3",
        "link": ", ".join(
            f'<{page.format(number)}>; rel="{name}"'
            for name, number in {"first": 1, "last": 3, "next": 3, "prev": 1}.items()
        ),
    }
    assert len(root.groups.list(iterator=True)) == 5


def test_branch_is_protected_once(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "data", "initialize_with_readme": True})
    assert [one.name for one in project.protectedbranches.list(get_all=True)] == ["main"]
    project.protectedbranches.create({"name": "release/*"})
    with pytest.raises(gitlab.GitlabCreateError) as error:
        project.protectedbranches.create({"name": "release/*"})
    assert refusal(error) == (409, "Protected branch 'release/*' already exists")


def test_commit_is_made_of_actions(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "data", "initialize_with_readme": True})
    commit = project.commits.create(
        {
            "branch": "main",
            "commit_message": "Two files\n",
            "actions": [
                {"action": "create", "file_path": "a/b.txt", "content": "one\n"},
                {"action": "create", "file_path": "run.sh", "content": "true\n", "execute_filemode": True},
                {"action": "update", "file_path": "README.md", "content": "new\n"},
            ],
        }
    )
    assert (commit.title, commit.author_name) == ("Two files", "Administrator")
    assert project.files.get("a/b.txt", ref="main").decode() == b"one\n"
    assert project.files.get("run.sh", ref="main").execute_filemode is True
    assert [one.title for one in project.commits.list(get_all=True)] == ["Two files", "Initial commit"]


def test_file_is_created_changed_and_removed(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "data", "initialize_with_readme": True})
    about = {"branch": "main", "commit_message": "One file"}
    file = project.files.create({"file_path": "x.txt", "content": "one", **about})
    with pytest.raises(gitlab.GitlabCreateError) as error:
        project.files.create({"file_path": "x.txt", "content": "one", **about})
    assert refusal(error) == (400, "A file with this name already exists")
    file.content = "two"
    file.save(branch="main", commit_message="Changed")
    assert project.files.raw("x.txt", ref="main") == b"two"
    project.files.delete("x.txt", branch="main", commit_message="Gone")
    with pytest.raises(gitlab.GitlabGetError) as gone:
        project.files.get("x.txt", ref="main")
    assert refusal(gone) == (404, "404 File Not Found")


def test_hook_and_deploy_token_are_kept(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "data"})
    project.hooks.create({"url": "https://x.test/hook", "push_events": True})
    assert [one.url for one in project.hooks.list(get_all=True)] == ["https://x.test/hook"]
    made = project.deploytokens.create({"name": "pull", "scopes": ["read_registry"]})
    assert made.token.startswith("gldt-")
    assert [one.name for one in project.deploytokens.list(get_all=True)] == ["pull"]
