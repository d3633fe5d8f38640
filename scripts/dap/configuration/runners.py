"""The settings of the runners: what CI jobs may use, on every runner host or on some."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from dap.configuration import values
from dap.configuration.gpus import Gpus
from dap.configuration.section import Section

NAME_PATTERN = r"[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?"
DEFAULT = "docker"
FREE_DISK = "2g"
IMAGE_BUILDS = "image-builds"

Tag = Annotated[
    str,
    BeforeValidator(
        values.matching(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}", "is not a tag of letters, digits and . _ : / -")
    ),
]
RunnerName = Annotated[
    str,
    StringConstraints(pattern=f"^{NAME_PATTERN}$"),
    BeforeValidator(
        values.name(
            NAME_PATTERN,
            "at most 30 small letters, digits and hyphens, with a letter first and no hyphen at the end",
            {
                DEFAULT: "the runner that every runner host has",
                "image_builds": "the runner that builds images",
            },
        )
    ),
]
ImagePattern = Annotated[
    str,
    BeforeValidator(
        values.matching(r"[A-Za-z0-9*?{}$][A-Za-z0-9._/:@*?{},$-]{0,199}", "is not a pattern of images")
    ),
]
PullPolicy = Annotated[
    Literal["always", "if-not-present", "never"],
    BeforeValidator(values.choice("always", "if-not-present", "never")),
]
Jobs = Annotated[int, Field(ge=1, le=256), BeforeValidator(values.number("a number of jobs", 1, 256))]
Days = Annotated[int, Field(ge=0, le=3650), BeforeValidator(values.number("a number of days", 0, 3650))]
Seconds = Annotated[
    int, Field(ge=0, le=86400), BeforeValidator(values.number("a number of seconds", 0, 86400))
]


class Limits(Section):
    """How much jobs may use."""

    jobs: Jobs | None = Field(
        default=None,
        description=(
            "Jobs at the same time on one host. Without it, one for each processor, as far as each has 2 GB"
            " of memory."
        ),
        examples=[4],
    )
    memory: values.Memory | None = Field(
        default=None,
        description=(
            "Most memory of a job, with unit `m` or `g`. Without it, an equal share of what the services"
            " leave."
        ),
        examples=["8g"],
    )
    cpus: values.Processors | None = Field(
        default=None,
        description="Most processors of a job. Without it, all of the host's.",
        examples=[2],
    )


class HostLimits(Limits):
    """How much jobs may use of a host."""

    free_disk: values.Memory | None = Field(
        default=None,
        description=(
            "Room that the disk with Docker's folder must have for jobs to be taken, with unit `m` or `g`."
            f" Without it, `{FREE_DISK}`."
        ),
        examples=["20g"],
    )


class ExtraRunner(Limits):
    """A runner beside the one that every runner host has, for jobs with its tags."""

    name: RunnerName = Field(
        description="Its name; GitLab shows it as `<platform>/<host>/<name>`.", examples=["gpu"]
    )
    tags: tuple[Tag, ...] = Field(
        description="Tags of the jobs that it takes; jobs without tags are not for it.", examples=[["gpu"]]
    )
    hosts: tuple[values.Line, ...] = Field(
        default=(),
        description="Hosts that have it, by their names in `hosts.yml`; all runner hosts if empty.",
        examples=[["gpu1"]],
    )
    jobs: Jobs | None = Field(
        default=None,
        description=(
            "Jobs at the same time on one host. Without it, as many as the host runs; with GPUs that are not"
            " shared, one."
        ),
        examples=[1],
    )
    gpus: Gpus = Field(
        default=(),
        description=(
            "GPUs that its jobs see on each of its hosts: how many, or which, by index, UUID or CDI name."
        ),
        examples=[["nvidia.com/gpu=all"]],
    )
    gpus_shared: values.Switch = Field(
        default=False,
        description="Whether several of its jobs, and others that share them, have them at once.",
        examples=[True],
    )


class ImageBuilds(Limits):
    """Builds of images in pipelines, and how much their jobs may use where that is not as for others."""

    enabled: values.Switch = Field(
        default=True,
        description="Whether runner hosts have a runner for jobs with the tag `image-builds`.",
        examples=[False],
    )
    hosts: tuple[values.Line, ...] = Field(
        default=(),
        description="Hosts that have it, by their names in `hosts.yml`; all runner hosts if empty.",
        examples=[["alpha"]],
    )


class Runners(HostLimits):
    """What runs the jobs of GitLab's pipelines on the runner hosts."""

    image: values.ImageReference | None = Field(
        default=None,
        description=(
            "Image of jobs that name none. Without it, the environment `python-r`, which every runner host"
            " has; `debian:trixie-slim` where `environments` leaves that out."
        ),
        examples=["debian:trixie-slim"],
    )
    tags: tuple[Tag, ...] = Field(
        default=(DEFAULT,), description="Tags of the runner that every runner host has.", examples=[[DEFAULT]]
    )
    untagged: values.Switch = Field(
        default=True, description="Whether that runner takes jobs without tags, too.", examples=[False]
    )
    allowed_images: tuple[ImagePattern, ...] = Field(
        default=(),
        description=(
            "Patterns of the images that jobs may use; all if empty. `**` is anything. The platform's own"
            " environments are always allowed; with `image_builds`, so is what its GitLab registry has."
        ),
        examples=[["python:*", "debian:*"]],
    )
    allowed_services: tuple[ImagePattern, ...] = Field(
        default=(),
        description="Patterns of the images that jobs may use as services; all if empty.",
        examples=[["postgres:*"]],
    )
    pull_policy: tuple[PullPolicy, ...] = Field(
        default=("if-not-present", "always"),
        description="When images of jobs are pulled: as the first says, or as a job chooses of the list.",
        examples=[["if-not-present", "always"]],
    )
    drain_seconds: Seconds = Field(
        default=900,
        description="How long a runner that is to end waits for its jobs; then they fail.",
        examples=[1800],
    )
    clean_after_days: Days = Field(
        default=7,
        description=(
            "Days after which what jobs have left on a runner host is removed: containers and volumes that"
            " their runner has not removed, and images that were pulled for jobs and not used since. 0 for"
            " never."
        ),
        examples=[14],
    )
    image_builds: ImageBuilds = Field(
        default=ImageBuilds(),
        description=(
            "Builds of images in pipelines, without privileges and without an engine: a runner of their own,"
            " with some rights that other jobs do not have."
        ),
        examples=[{"enabled": False}],
    )
    hosts: dict[str, HostLimits] = Field(
        default={},
        description="Other limits on single hosts, by their names in `hosts.yml`.",
        examples=[{"alpha": {"jobs": 8}}],
    )
    extra: tuple[ExtraRunner, ...] = Field(
        default=(),
        description="Runners beside the one that every runner host has, for jobs with their tags.",
        examples=[[{"name": "gpu", "tags": ["gpu"], "hosts": ["gpu1"], "gpus": ["nvidia.com/gpu=all"]}]],
    )
