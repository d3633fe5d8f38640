"""The settings of development containers: who gets which environment on which host, with how much."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field, StringConstraints

from dap.configuration import values, wording
from dap.configuration.gpus import KIND, Gpus
from dap.configuration.section import Section
from dap.configuration.wording import Fault

if TYPE_CHECKING:
    from dap.configuration.rules import Settings

NAME_PATTERN = r"[a-z](?:[a-z0-9-]{0,48}[a-z0-9])?"
MEMORY = "2g"
SHARED_MEMORY = "1g"
PROCESSES = 2048

ContainerName = Annotated[
    str,
    StringConstraints(pattern=f"^{NAME_PATTERN}$"),
    BeforeValidator(
        values.name(
            NAME_PATTERN,
            "at most 50 small letters, digits and hyphens, with a letter first and no hyphen at the end",
        )
    ),
]


class DevContainer(Section):
    """A container that a user works in, over SSH."""

    user: Annotated[str, BeforeValidator(values.one_line(40))] = Field(
        description="Whose it is: one of `users`, with at least one SSH key.", examples=["ada"]
    )
    environment: Annotated[str, BeforeValidator(values.one_line(40))] = Field(
        description="The environment whose image it runs.", examples=["python"]
    )
    host: Annotated[str | None, BeforeValidator(values.one_line(253))] = Field(
        default=None,
        description=(
            "The runner host that it is on, by its name in `hosts.yml`. Needed where there are several."
        ),
        examples=["alpha"],
    )
    name: ContainerName | None = Field(
        default=None,
        description="What it is called, also by `ssh`; `<user>-<environment>` without it.",
        examples=["ada-python"],
    )
    memory: values.Memory = Field(
        default=MEMORY, description="Most memory it may use, with unit `m` or `g`.", examples=["16g"]
    )
    cpus: values.Processors | None = Field(
        default=None,
        description="Most processors it may use, at most as many as the host has. Without it, all of them.",
        examples=[4],
    )
    pids: Annotated[
        int, Field(ge=16, le=32768), BeforeValidator(values.number("a number of processes", 16, 32768))
    ] = Field(default=PROCESSES, description="Most processes and threads it may have.", examples=[4096])
    shm: values.Memory = Field(
        default=SHARED_MEMORY,
        description="Most memory that its processes may share; what they use of it counts as memory.",
        examples=["8g"],
    )
    gpus: Gpus = Field(
        default=(),
        description=(
            "GPUs of the host that it has: how many, or which, by index, UUID or CDI name; a number or a name"
            f" without a kind is of `{KIND}`. Nobody else gets them."
        ),
        examples=[1],
    )
    gpus_shared: values.Switch = Field(
        default=False,
        description="Whether others that share them, too, have them at the same time.",
        examples=[True],
    )
    port: values.Port | None = Field(
        default=None,
        description="Port of its SSH server on the host. Without it, one from 22001 on, which it keeps.",
        examples=[22001],
    )
    idle_stop: values.Duration | None = Field(
        default=None,
        description=(
            "How long it may be idle before what runs in it is ended: nobody connected, no kernel at work,"
            " processors and GPUs at rest. Whoever connects again finds it ready. Without it, never."
        ),
        examples=["8h"],
    )
    jupyter: values.Switch = Field(
        default=True,
        description="Whether `https://<name>.<domain>/` opens its JupyterLab, for its user.",
        examples=[False],
    )
    code_server: values.Switch = Field(
        default=False,
        description="Whether `https://<name>.<domain>/code/` opens VS Code in the browser, for its user.",
        examples=[True],
    )


class Homes(Section):
    """What users' homes in development containers may hold."""

    size: values.DiskSpace | None = Field(
        default=None,
        description=(
            "Most that the home of each user may hold on each host, with unit `m`, `g` or `t`. Without it, as"
            " much as there is room for."
        ),
        examples=["50g"],
    )


def name_of(user: str, environment: str) -> str:
    """What a container is called for which no name is written."""
    return re.sub(r"[._]", "-", f"{user}-{environment}")


def containers_have_users(settings: Settings) -> Iterator[Fault]:
    """The user of a development container is one of `users`, and has a key, GitLab's or certificates."""
    users = {
        name: index
        for index in range(settings.size("users"))
        if isinstance(name := settings.get("users", index, "name"), str)
    }
    for index in range(settings.size("dev_containers")):
        user = settings.get("dev_containers", index, "user")
        if not isinstance(user, str):
            continue
        location = ("dev_containers", index, "user")
        if user not in users:
            advice = wording.one_of(user, users) if users else f"add it to users: - name: {user}"
            yield Fault(location, wording.unknown_member(advice))
        elif not settings.is_faulty("users", users[user]) and not (
            settings.size("users", users[user], "ssh_keys")
            or settings.get("users", users[user], "ssh_keys_from_gitlab")
            or settings.get("ssh_user_certificates")
        ):
            yield Fault(location, wording.user_without_key(f"users[{users[user]}]"))


def gitlab_has_keys(settings: Settings) -> Iterator[Fault]:
    """Who takes SSH keys from GitLab has an account there."""
    for index in range(settings.size("users")):
        if settings.get("users", index, "ssh_keys_from_gitlab") is not True:
            continue
        location = ("users", index, "ssh_keys_from_gitlab")
        if settings.get("users", index, "gitlab_account") is False:
            yield Fault(location, wording.no_account_for_keys(f"users[{index}].gitlab_account"))
        elif settings.get("services", "gitlab", "enabled") is False:
            yield Fault(location, wording.no_account_for_keys("services.gitlab.enabled"))


def containers_differ(settings: Settings) -> Iterator[Fault]:
    """No two development containers have the same name."""
    first_with: dict[str, int] = {}
    for index in range(settings.size("dev_containers")):
        written = settings.get("dev_containers", index, "name")
        parts = [settings.get("dev_containers", index, key) for key in ("user", "environment")]
        name = written if isinstance(written, str) else None
        if not settings.written("dev_containers", index, "name") and all(
            isinstance(part, str) for part in parts
        ):
            name = name_of(*map(str, parts))
        if name is None:
            continue
        first = first_with.setdefault(name, index)
        if first != index:
            other = f"dev_containers[{first}]"
            yield Fault(("dev_containers", index, "name"), wording.same_name(other), value=name)


def user_numbers_differ(settings: Settings) -> Iterator[Fault]:
    """No two users have the same `uid`."""
    first_with: dict[int, int] = {}
    for index in range(settings.size("users")):
        number = settings.get("users", index, "uid")
        if isinstance(number, int) and (first := first_with.setdefault(number, index)) != index:
            yield Fault(("users", index, "uid"), wording.same_number(f"users[{first}].uid"))
