"""Git against the double: who may clone and push, and what a push brings about."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import gitlab
import pytest
from gitlab.v4.objects import Project

from tests.gitlab_double.fake_runner import FakeRunner
from tests.gitlab_double.local import ROOT_PASSWORD, LocalDouble
from tests.gitlab_double.server import git_ssh
from tests.gitlab_double.server.records import Key, User

LARGE = 6 * 1024 * 1024
"""More than git sends in one piece, so that the body comes in chunks."""


def run(*arguments: str | Path, folder: Path, **environment: str) -> str:
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0", **environment}
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        ["git", "-c", "user.name=ada", "-c", "user.email=ada@example.com", *map(str, arguments)],
        cwd=folder,
        env=kept | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


Address = Callable[[str, str, str], str]


@pytest.fixture
def address(double: LocalDouble) -> Address:
    """Of a project, with a name and a password in it."""

    def of(path: str, name: str, password: str) -> str:
        return f"{double.url.replace('://', f'://{name}:{password}@')}/{path}.git"

    return of


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "work"
    run("init", "--quiet", "--initial-branch=main", folder, folder=tmp_path)
    (folder / ".gitlab-ci.yml").write_text("build: {script: make}\n")
    run("add", ".", folder=folder)
    run("commit", "--quiet", "--message=first", folder=folder)
    return folder


def add_user(root: gitlab.Gitlab, project: Project, level: int) -> None:
    about = {"username": "ada", "name": "Ada", "email": "ada@example.com", "password": "Long-enough-1"}
    project.members.create({"user_id": root.users.create(about).id, "access_level": level})


def test_push_with_a_token_makes_a_project_and_a_pipeline(
    double: LocalDouble, root: gitlab.Gitlab, work: Path, address: Address
) -> None:
    run("push", "--quiet", address("root/new", "anything", double.token()), "main", folder=work)
    made = root.projects.get("root/new")
    assert made.default_branch == "main"
    assert [one.status for one in made.pipelines.list(get_all=True)] == ["pending"]


def test_large_push_comes_back_as_it_was(
    double: LocalDouble, tmp_path: Path, work: Path, address: Address
) -> None:
    content = os.urandom(LARGE)
    (work / "data.bin").write_bytes(content)
    run("add", ".", folder=work)
    run("commit", "--quiet", "--message=data", folder=work)
    url = address("root/new", "root", ROOT_PASSWORD)
    run("push", "--quiet", url, "main", folder=work)
    run("clone", "--quiet", url, "there", folder=tmp_path)
    assert (tmp_path / "there" / "data.bin").read_bytes() == content
    assert double.double.received > LARGE


def test_long_request_comes_compressed(
    double: LocalDouble, tmp_path: Path, work: Path, address: Address
) -> None:
    url = address("root/new", "root", ROOT_PASSWORD)
    for number in range(40):
        run("commit", "--quiet", "--allow-empty", f"--message={number}", folder=work)
        run("branch", f"b{number}", folder=work)
    run("push", "--quiet", "--all", url, folder=work)
    # Git compresses a request that names many commits.
    run("clone", "--quiet", "-c", "protocol.version=0", url, "there", folder=tmp_path)
    assert run("rev-list", "--count", "--all", folder=tmp_path / "there").strip() == "41"


def test_project_is_not_made_where_there_is_no_group(
    double: LocalDouble, work: Path, address: Address
) -> None:
    with pytest.raises(AssertionError, match="could not be found or you don't have permission"):
        run("push", "--quiet", address("nowhere/new", "root", double.token()), "main", folder=work)


@pytest.mark.parametrize(
    ("name", "password"), [("root", "wrong"), ("gitlab-ci-token", "wrong"), ("root", "")]
)
def test_wrong_password_is_refused(
    project: Project, tmp_path: Path, address: Address, name: str, password: str
) -> None:
    with pytest.raises(AssertionError, match=r"Authentication failed|could not read"):
        run("ls-remote", address("team/data", name, password), folder=tmp_path)


def test_refusal_names_the_realm(double: LocalDouble, project: Project) -> None:
    answer = double.ask("GET", "/team/data.git/info/refs?service=git-upload-pack")
    assert (answer.status_code, answer.text) == (401, "HTTP Basic: Access denied.")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="GitLab"'


def test_token_without_the_scope_does_not_push(
    double: LocalDouble, project: Project, work: Path, address: Address
) -> None:
    token = double.token(None, "read_repository")
    url = address("team/data", "root", token)
    assert "refs/heads/main" in run("ls-remote", url, folder=work)
    with pytest.raises(AssertionError, match="The requested URL returned error: 403"):
        run("push", "--quiet", url, "main:other", folder=work)


def test_developer_pushes_to_branches_that_are_not_protected(
    root: gitlab.Gitlab, project: Project, tmp_path: Path, address: Address
) -> None:
    add_user(root, project, 30)
    url = address("team/data", "ada", "Long-enough-1")
    run("clone", "--quiet", url, "there", folder=tmp_path)
    there = tmp_path / "there"
    run("commit", "--quiet", "--allow-empty", "--message=more", folder=there)
    run("push", "--quiet", url, "main:feature", folder=there)
    assert "feature" in [one.name for one in project.branches.list(get_all=True)]
    with pytest.raises(
        AssertionError, match="You are not allowed to push code to protected branches on this project"
    ):
        run("push", "--quiet", url, "main", folder=there)


def test_protected_branch_is_not_rewritten(
    double: LocalDouble, project: Project, work: Path, address: Address
) -> None:
    url = address("team/data", "root", double.token())
    with pytest.raises(AssertionError, match="You are not allowed to force push code to a protected branch"):
        run("push", "--quiet", "--force", url, "main", folder=work)


def test_running_job_clones_its_project(
    project: Project, runner: FakeRunner, tmp_path: Path, double: LocalDouble
) -> None:
    about = {"branch": "main", "commit_message": "CI"}
    project.files.create({"file_path": ".gitlab-ci.yml", "content": "a: {script: x}", **about})
    job = runner.take()
    source = job["git_info"]
    run("init", "--quiet", "there", folder=tmp_path)
    fetch = ("fetch", "--quiet", "--depth", str(source["depth"]), source["repo_url"], *source["refspecs"])
    run(*fetch, folder=tmp_path / "there")
    run("checkout", "--quiet", source["sha"], folder=tmp_path / "there")
    assert (tmp_path / "there" / ".gitlab-ci.yml").read_text() == "a: {script: x}"
    runner.end(job)
    with pytest.raises(AssertionError, match="Authentication failed"):
        run("ls-remote", source["repo_url"], folder=tmp_path)


def test_tag_makes_a_pipeline_of_its_own(
    double: LocalDouble, root: gitlab.Gitlab, work: Path, address: Address
) -> None:
    url = address("root/new", "root", double.token())
    run("push", "--quiet", url, "main", folder=work)
    run("tag", "v1", folder=work)
    run("push", "--quiet", url, "v1", folder=work)
    found = root.projects.get("root/new").pipelines.list(get_all=True)
    assert [one.ref for one in found] == ["v1", "main"]


# --- over SSH --------------------------------------------------------------------------------------------

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIDa9RyFxCpzQDVjOUmbFxYzfMBLsBBSvJ0Xg7kJQJqL"
TYPE_AND_BLOB = ("ssh-ed25519", KEY.partition(" ")[2])


def keep_key(double: LocalDouble) -> Key:
    owner = double.store.first(User, username="root")
    assert owner
    return double.store.add(Key(user_id=owner.id, title="laptop", key=f"{KEY} root@laptop"))


def test_key_of_a_user_is_let_in_for_git_only(double: LocalDouble) -> None:
    key = keep_key(double)
    options = "no-port-forwarding,no-X11-forwarding,no-agent-forwarding,no-pty"
    line = f'command="/shell key-{key.id}",{options} {KEY}\n'
    assert git_ssh.authorized(double.double, *TYPE_AND_BLOB, "/shell") == line
    assert git_ssh.authorized(double.double, "ssh-ed25519", "AAAAother", "/shell") == ""


def test_key_of_a_blocked_user_is_not_let_in(double: LocalDouble) -> None:
    keep_key(double)
    owner = double.store.first(User, username="root")
    assert owner
    owner.state = "blocked"
    double.store.save(owner)
    assert git_ssh.authorized(double.double, *TYPE_AND_BLOB, "/shell") == ""


def test_shell_greets_and_runs_nothing_but_git(
    double: LocalDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"key-{keep_key(double).id}"
    assert git_ssh.serve(double.double, name, "") == 0
    assert capsys.readouterr().out == "Welcome to GitLab, @root!\n"
    assert git_ssh.serve(double.double, name, "rm -rf /") == 1
    assert "ERROR: Disallowed command" in capsys.readouterr().err
