"""Fixtures that several of the files here share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gitlab
import pytest
from gitlab.v4.objects import Project

from tests.gitlab_double.fake_runner import FakeRunner
from tests.gitlab_double.local import LocalDouble


@pytest.fixture
def double(tmp_path: Path) -> Iterator[LocalDouble]:
    """GitLab's double on a local port. A call that GitLab's descriptions do not allow fails the test."""
    started = LocalDouble(tmp_path)
    try:
        yield started
        assert started.violations == []
    finally:
        started.stop()


@pytest.fixture
def root(double: LocalDouble) -> gitlab.Gitlab:
    """python-gitlab as the administrator."""
    client = gitlab.Gitlab(double.url, private_token=double.token(), keep_base_url=True)
    client.session.trust_env = False
    client.auth()
    return client


@pytest.fixture
def project(root: gitlab.Gitlab) -> Project:
    """A project of a group, with a first commit."""
    group = root.groups.create({"name": "Team", "path": "team"})
    made = root.projects.create({"name": "data", "namespace_id": group.id, "initialize_with_readme": True})
    return root.projects.get(made.id)


@pytest.fixture
def runner(double: LocalDouble, root: gitlab.Gitlab) -> Iterator[FakeRunner]:
    """A runner for everybody."""
    made = root.http_post("/user/runners", post_data={"runner_type": "instance_type", "tag_list": ["docker"]})
    assert isinstance(made, dict)
    fake = FakeRunner(double.url, made["token"])
    yield fake
    fake.close()
