"""What the double remembers: one class, one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import clock


@dataclass
class Record:
    id: int = 0
    created_at: str = field(default_factory=clock.now)


@dataclass
class User(Record):
    username: str = ""
    name: str = ""
    email: str = ""
    password: str = ""
    """As ``passwords.digest`` writes it; empty: nobody can sign in with one."""
    password_expires_at: str | None = None
    password_automatically_set: bool = False
    admin: bool = False
    state: str = "active"
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Key(Record):
    user_id: int = 0
    title: str = ""
    key: str = ""
    expires_at: str | None = None
    usage_type: str = "auth_and_signing"


@dataclass
class PersonalAccessToken(Record):
    user_id: int = 0
    name: str = ""
    description: str | None = None
    digest: str = ""
    scopes: list[str] = field(default_factory=list)
    expires_at: str | None = None
    revoked: bool = False
    last_used_at: str | None = None


@dataclass
class Setting(Record):
    """The single row of the application's settings: only what was set."""

    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Namespace(Record):
    """A group, or what a user's own projects are in."""

    kind: str = "group"
    owner_id: int | None = None
    parent_id: int | None = None
    name: str = ""
    path: str = ""
    full_path: str = ""
    description: str = ""
    visibility: str = "private"
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Project(Record):
    namespace_id: int = 0
    creator_id: int = 0
    name: str = ""
    path: str = ""
    full_path: str = ""
    description: str | None = None
    visibility: str = "private"
    default_branch: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Member(Record):
    source: str = "group"
    source_id: int = 0
    user_id: int = 0
    access_level: int = 0
    expires_at: str | None = None
    created_by: int | None = None


@dataclass
class Variable(Record):
    owner: str = "instance"
    """``instance``, ``group`` or ``project``; ``owner_id`` is 0 for the instance."""
    owner_id: int = 0
    key: str = ""
    value: str = ""
    variable_type: str = "env_var"
    protected: bool = False
    masked: bool = False
    hidden: bool = False
    raw: bool = False
    environment_scope: str = "*"
    description: str | None = None


@dataclass
class Application(Record):
    uid: str = ""
    name: str = ""
    redirect_uri: str = ""
    scopes: list[str] = field(default_factory=list)
    confidential: bool = True
    secret: str = ""


@dataclass
class Runner(Record):
    runner_type: str = "instance_type"
    group_id: int | None = None
    project_id: int | None = None
    description: str = ""
    token: str = ""
    maintenance_note: str | None = None
    paused: bool = False
    locked: bool = False
    run_untagged: bool = True
    access_level: str = "not_protected"
    maximum_timeout: int | None = None
    tag_list: list[str] = field(default_factory=list)
    created_by: int | None = None
    contacted_at: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    """What the runner said of itself when it last came: version, platform and so on."""
    system_id: str = ""
    ip_address: str = ""


@dataclass
class ProtectedBranch(Record):
    project_id: int = 0
    name: str = ""
    push_access_level: int = 40
    merge_access_level: int = 40
    allow_force_push: bool = False


@dataclass
class Hook(Record):
    project_id: int = 0
    url: str = ""
    token: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class DeployToken(Record):
    project_id: int = 0
    name: str = ""
    username: str = ""
    digest: str = ""
    scopes: list[str] = field(default_factory=list)
    expires_at: str | None = None
    revoked: bool = False


@dataclass
class Pipeline(Record):
    project_id: int = 0
    iid: int = 0
    user_id: int = 0
    ref: str = ""
    tag: bool = False
    sha: str = ""
    before_sha: str = "0" * 40
    source: str = "push"
    status: str = "created"
    updated_at: str = field(default_factory=clock.now)
    started_at: str | None = None
    finished_at: str | None = None
    yaml_errors: str | None = None
    variables: list[dict[str, Any]] = field(default_factory=list)
    """As given by who made it: ``{key, value, variable_type}``."""
    workflow_variables: dict[str, str] = field(default_factory=dict)


@dataclass
class Job(Record):
    pipeline_id: int = 0
    project_id: int = 0
    user_id: int = 0
    name: str = ""
    stage: str = "test"
    stage_index: int = 0
    status: str = "created"
    token: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    """The job as ``ci.specification.JobSpec`` writes it."""
    runner_id: int | None = None
    queued_at: str | None = None
    started_at: str | None = None
    updated_at: str = field(default_factory=clock.now)
    """When its runner was last heard of."""
    finished_at: str | None = None
    erased_at: str | None = None
    failure_reason: str | None = None
    exit_code: int | None = None
    retried: bool = False
    attempt: int = 0
    played: bool = False
    cancel_requested: bool = False


@dataclass
class Artifact(Record):
    job_id: int = 0
    file_type: str = "archive"
    file_format: str = "zip"
    filename: str = "artifacts.zip"
    size: int = 0
    expires_at: str | None = None


@dataclass
class Violation(Record):
    """A request or an answer that GitLab's own description does not allow."""

    call: str = ""
    message: str = ""


ALL: tuple[type[Record], ...] = (
    *(User, Key, PersonalAccessToken, Setting, Namespace, Project, Member, Variable, Application, Runner),
    *(ProtectedBranch, Hook, DeployToken, Pipeline, Job, Artifact, Violation),
)
