"""What becomes of a Compose project: the difference between two looks at it, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dap_docker import Container

LOG_LINES = 15


@dataclass(frozen=True)
class Difference:
    """Names of the services whose containers came, went or started again."""

    created: tuple[str, ...] = ()
    recreated: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def touched(self) -> set[str]:
        """Services that have read their files anew."""
        return {*self.created, *self.recreated, *self.restarted}

    def result(self) -> dict[str, Any]:
        """The difference as a module returns it."""
        lists = {
            "created": self.created,
            "recreated": self.recreated,
            "restarted": self.restarted,
            "removed": self.removed,
        }
        changed = any(lists.values())
        return {"changed": changed, **{name: list(services) for name, services in lists.items()}}


def by_place(containers: Iterable[Container]) -> dict[tuple[str, str], Container]:
    """The containers of services (no one-off ones) by service and number."""
    return {(item.service, item.number): item for item in containers if not item.one_off}


def compare(before: Iterable[Container], after: Iterable[Container]) -> Difference:
    """What happened between two looks."""
    old, new = by_place(before), by_place(after)
    both = old.keys() & new.keys()
    again = {place for place in both if old[place].identifier != new[place].identifier}
    started = {place for place in both - again if old[place].started_at != new[place].started_at}

    def services(places: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        return tuple(sorted({service for service, _ in places}))

    return Difference(
        services(new.keys() - old.keys()),
        services(again),
        services(started),
        services(old.keys() - new.keys()),
    )


def predict(
    hashes: Mapping[str, str], containers: Iterable[Container], only: set[str] | None = None
) -> Difference:
    """What ``up`` would do, from the configuration hashes of the services and of the containers.

    Args:
        only: the services that are looked at; all if None.
    """
    there = {place: item for place, item in by_place(containers).items() if only is None or place[0] in only}
    hashes = {service: value for service, value in hashes.items() if only is None or service in only}
    services = {service for service, _ in there}
    differing, stopped, orphaned = set(), set(), set()
    for (service, _), container in there.items():
        if service not in hashes:
            orphaned.add(service)
        elif container.config_hash != hashes[service]:
            differing.add(service)
        elif container.status != "running":
            stopped.add(service)
    return Difference(
        tuple(sorted(hashes.keys() - services)),
        tuple(sorted(differing)),
        tuple(sorted(stopped - differing)),
        tuple(sorted(orphaned)),
    )


def parse_hashes(printed: str) -> dict[str, str]:
    """Read the output of ``docker compose config --hash '*'``: a service and its hash in each line."""
    pairs = (line.split() for line in printed.splitlines())
    return {words[0]: words[1] for words in pairs if len(words) == 2}


def to_signal(
    reload: Sequence[Mapping[str, Any]], changed_paths: Iterable[str], touched: set[str]
) -> list[tuple[str, str]]:
    """Service and signal where files changed that the service can read again without a restart.

    A path with a slash at its end stands for all that is below it.
    """
    changed = set(changed_paths)
    wanted = []
    for entry in reload:
        folders = tuple(path for path in entry["paths"] if path.endswith("/"))
        met = changed.intersection(entry["paths"]) or any(path.startswith(folders) for path in changed)
        if met and entry["service"] not in touched:
            wanted.append((entry["service"], entry["signal"]))
    return wanted


def state_of(container: Container) -> str:
    """One phrase on how a container is."""
    if container.status == "created":
        others = ", ".join(container.waits_for)
        return f"not started; it waits for {others}" if others else "not started"
    if container.status in ("exited", "dead"):
        return f"ended with exit status {container.exit_code}"
    if container.status == "restarting":
        return f"starts again and again; last exit status {container.exit_code}"
    if container.status == "running" and container.health:
        return "running, but unhealthy" if container.health == "unhealthy" else f"running, {container.health}"
    return str(container.status)


def describe_failure(containers: Sequence[Container], logs: Mapping[str, str], output: Sequence[str]) -> str:
    """Say which services are not well and why.

    Args:
        containers: all containers of the project.
        logs: the last log lines by container name.
        output: what Compose itself wrote.
    """
    bad = [container for container in containers if not container.one_off and not container.well]
    # The ones that only wait come last: they are not the cause.
    bad.sort(key=lambda container: (container.status == "created", container.name))
    if not bad:
        said = [line.strip() for line in output if line.strip() and not line.startswith(" ")]
        return "docker compose: " + ("\n".join(said[-5:]) or "failed without a word")
    verb = "is" if len(bad) == 1 else "are"
    lines = [f"{len(bad)} of {len(by_place(containers))} services {verb} not well:"]
    # What the engine refused; that a container is not healthy is said better below.
    refused = [line.strip() for line in output if line.startswith(("Error response", "error while"))]
    lines += [f"  docker compose: {line[:500]}" for line in refused[-1:]]
    for container in bad:
        lines.append(f"  {container.service}: {state_of(container)}")
        if container.status != "created" and container.health_output:
            lines.append(f"    health check: {container.health_output[:500]}")
        log = [line for line in logs.get(container.name, "").splitlines() if line.strip()]
        lines += [f"    | {line.rstrip()}" for line in log[-LOG_LINES:]]
    return "\n".join(lines)
