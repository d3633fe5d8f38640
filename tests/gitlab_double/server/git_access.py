"""Who may read and write a repository, by whatever Git or Docker sends as name and password."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import passwords
from .access import (
    DEVELOPER,
    GUEST,
    REPORTER,
    find_token,
    is_active,
    is_expired,
    level_in_namespace,
    level_in_project,
)
from .protection import lets_push
from .records import DeployToken, Job, Namespace, Project, ProtectedBranch, User

if TYPE_CHECKING:
    from .double import Double

HOOKS = Path(__file__).parent / "hooks"
JOB_USER = "gitlab-ci-token"


@dataclass(frozen=True)
class Holder:
    """Who stands behind a name and a password, and what the password was made for."""

    user: User | None = None
    scopes: frozenset[str] | None = None
    """None: a password, which is good for everything."""
    job: Job | None = None
    deploy_token: DeployToken | None = None

    @property
    def name(self) -> str:
        if self.deploy_token:
            return self.deploy_token.username
        return self.user.username if self.user else ""

    def has(self, *scopes: str) -> bool:
        return self.scopes is None or bool(self.scopes & {"api", *scopes})


def holder(double: Double, name: str, password: str) -> Holder | None:
    """Whose a name and a password are: a token's name may be anything, a job's is fixed."""
    store = double.store
    if not password:
        return None
    if name == JOB_USER:
        job = store.first(Job, token=password)
        if job is None or job.status not in ("running", "canceling"):
            return None
        return Holder(store.get(User, job.user_id), frozenset(), job)
    deploy = store.first(DeployToken, digest=passwords.token_digest(password))
    if deploy:
        usable = not deploy.revoked and not is_expired((deploy.expires_at or "")[:10])
        return (
            Holder(None, frozenset(deploy.scopes), None, deploy)
            if usable and deploy.username == name
            else None
        )
    token = find_token(store, password)
    if token:
        owner = store.get(User, token.user_id)
        usable = is_active(token) and owner is not None and owner.state == "active"
        return Holder(owner, frozenset(token.scopes)) if usable else None
    user = store.first(User, username=name) or store.first(User, email=name)
    if user is None or user.state != "active" or not passwords.matches(password, user.password):
        return None
    return Holder(user)


def find_project(double: Double, path: str) -> Project | None:
    wanted = path.strip("/").lower()
    return next((one for one in double.store.find(Project) if one.full_path.lower() == wanted), None)


def role(double: Double, who: Holder, project: Project) -> int:
    if who.user is None:
        return 0
    if who.user.admin and who.job is None:
        return 50
    return level_in_project(double.store, who.user, project)


def reads(double: Double, who: Holder | None, project: Project) -> bool:
    """Whether a repository may be cloned."""
    if who is None:
        return project.visibility == "public"
    if who.deploy_token:
        return who.deploy_token.project_id == project.id and who.has("read_repository")
    if who.job is not None and who.job.project_id == project.id:
        return True
    if who.job is None and not who.has("read_repository", "write_repository"):
        return False
    if role(double, who, project) >= (GUEST if project.visibility != "private" else REPORTER):
        return True
    return project.visibility != "private"


def writes(double: Double, who: Holder | None, project: Project) -> bool:
    """Whether something may be pushed; protected branches are looked at for themselves."""
    if who is None or who.deploy_token or who.job is not None or not who.has("write_repository"):
        return False
    return role(double, who, project) >= DEVELOPER


def namespace_for(double: Double, who: Holder, path: str) -> tuple[Namespace, str] | None:
    """Where a push to nothing makes a project: in a namespace in which its user may."""
    from .api.groups import creation_level

    above, _, name = path.strip("/").rpartition("/")
    namespace = next((one for one in double.store.find(Namespace) if one.full_path == above), None)
    if namespace is None or who.user is None or who.job or not who.has("write_repository"):
        return None
    if not who.user.admin and level_in_namespace(double.store, who.user, namespace) < creation_level(
        namespace
    ):
        return None
    return namespace, name


def hook_environment(double: Double, who: Holder | None, project: Project) -> dict[str, str]:
    """What the hook before a push is told: the branches that are protected, and from whom it comes."""
    rules = double.store.find(ProtectedBranch, project_id=project.id)
    own = role(double, who, project) if who else 0
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(HOOKS),
        "DOUBLE_PROTECTED": "\n".join(one.name for one in rules if not one.allow_force_push),
        "DOUBLE_FORBIDDEN": "\n".join(one.name for one in rules if not lets_push(one, own)),
    }
