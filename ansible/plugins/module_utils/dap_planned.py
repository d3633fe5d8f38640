"""What a deploy would do to a Compose project: its coming files, laid out for Compose, and the reasons."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .dap_project import Difference, state_of
from .dap_reasons import reasons

if TYPE_CHECKING:
    from .dap_docker import Container

COMPOSE_FILE = "compose.yaml"


@contextmanager
def laid_out(root: Path, files: Mapping[str, bytes]) -> Iterator[list[str]]:
    """Lay the Compose files of ``root`` as they would be into a private folder, for as long as the body runs.

    Yields the arguments that make Compose read them. Relative paths mean the same as in ``root``, so that
    the hashes of the configuration are those of the coming containers.

    Args:
        files: Compose files by path; the project's own is JSON and includes the others by their paths.
    """
    if not files:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="dap-plan-") as folder:
        for path, content in files.items():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        project_file = Path(folder, COMPOSE_FILE)
        project = json.loads(project_file.read_text(encoding="utf-8"))
        project["include"] = [
            {
                # What is not to change is asked where it lies.
                "path": str(Path(folder if path in files else root, path)),
                "project_directory": str((root / path).parent),
            }
            for path in project["include"]
        ]
        project_file.write_text(json.dumps(project), encoding="utf-8")
        yield ["-f", str(project_file)]


def services_in(printed: str) -> dict[str, Any]:
    """The services in the output of ``docker compose config --format json``."""
    return dict(json.loads(printed or "{}").get("services") or {})


def explain(
    difference: Difference,
    reloaded: Iterable[str],
    containers: Sequence[Container],
    configurations: tuple[Mapping[str, Any], Mapping[str, Any]],
    changed_paths: Iterable[str],
) -> list[dict[str, Any]]:
    """Every coming change of a container with its reasons.

    Args:
        difference: what Compose would do.
        reloaded: services that would get their signal.
        configurations: the services as Compose understands them, before and after.
        changed_paths: files of the tree that change, or changed without the services knowing yet.
    """
    old, new = configurations
    paths = set(changed_paths)
    told = [
        _change(name, "created", ["its container is missing"] if name in old else ["new"])
        for name in difference.created
    ]
    for name in difference.recreated:
        files = below(name, paths)
        why = reasons(old[name], new[name], files) if name in old and name in new else files
        # A deploy that was killed has written the files already: then they differ from the container only.
        told.append(_change(name, "recreated", why or ["its container is older than its files"]))
    states = {item.service: state_of(item) for item in containers if not item.one_off}
    told += [_change(name, "restarted", [states[name]]) for name in difference.restarted]
    told += [_change(name, "removed", []) for name in difference.removed]
    told += [_change(name, "reloaded", below(name, paths)) for name in reloaded]
    return told


def below(service: str, paths: Iterable[str]) -> list[str]:
    """Files of a service, relative to its folder, but not its Compose file."""
    own = (PurePosixPath(path) for path in paths)
    inside = [str(path.relative_to(service)) for path in own if path.parts[0] == service]
    return sorted(path for path in inside if path != COMPOSE_FILE)


def _change(service: str, action: str, why: Sequence[str]) -> dict[str, Any]:
    return {"service": service, "action": action, "reasons": list(why)}
