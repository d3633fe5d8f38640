"""How GPUs are written: how many, or which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from dap.configuration import values, wording
from dap.configuration.section import Section
from dap.configuration.wording import Fault

if TYPE_CHECKING:
    from dap.configuration.rules import Settings

MOST = 64
# The kind of device that a number or a name without one is of.
KIND = "nvidia.com/gpu"
_NAME = re.compile(r"([a-z0-9][a-z0-9.-]*/[A-Za-z0-9][A-Za-z0-9._-]*=)?[A-Za-z0-9][A-Za-z0-9._:-]*")


def gpus(value: object) -> object:
    """A check of a number of GPUs, or of a list of devices, as texts then."""
    if value is None:
        raise values.refusal(wording.no_value(removable=True))
    if isinstance(value, bool):
        raise values.refusal(wording.not_gpus(MOST))
    if isinstance(value, int) and 1 <= value <= MOST:
        return value
    if not isinstance(value, list | tuple):
        raise values.refusal(wording.not_gpus(MOST))
    names = [str(one) for one in value if isinstance(one, str | int) and not isinstance(one, bool)]
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong or len(names) < len(value):
        raise values.refusal(wording.not_a_gpu(wrong[0] if wrong else ""))
    return tuple(dict.fromkeys(names))


Gpus = Annotated[
    int | tuple[str, ...],
    BeforeValidator(gpus),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MOST},
                {"type": "array", "items": {"type": ["string", "integer"]}},
            ]
        }
    ),
]


class GpuHosts(Section):
    """Hosts with GPUs that development containers or jobs want."""

    prepare: values.Switch = Field(
        default=False,
        description=(
            "Whether a deploy installs NVIDIA's container toolkit, from the host's own package sources, and"
            " writes the CDI spec, where a host has NVIDIA's driver and no spec that fits it."
        ),
        examples=[True],
    )


def full_name(name: str) -> str:
    """The CDI name of a device that may be written as index or UUID."""
    return name if "=" in name else f"{KIND}={name}"


def jobs_have_devices_to_themselves(settings: Settings) -> Iterator[Fault]:
    """A runner with GPUs that are not shared runs one job at a time."""
    for index in range(settings.size("runners", "extra")):
        own: Any = [settings.get("runners", "extra", index, key) for key in ("gpus", "gpus_shared", "jobs")]
        wanted, shared, jobs = own
        if wanted and not shared and isinstance(jobs, int) and jobs > 1:
            yield Fault(("runners", "extra", index, "jobs"), wording.jobs_on_same_gpus())
