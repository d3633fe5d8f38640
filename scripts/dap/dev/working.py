"""Single development containers, as an operator works with them: over one connection, without a deploy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dap.configuration import edits, wording
from dap.containers import argv_on
from dap.credentials import Credentials
from dap.dev import hosts, numbers
from dap.dev.containers import AUTHORITY, USER_AUTHORITY, DevContainer, host_key_of, page_of
from dap.dev.deploying import concerned
from dap.dev.rendering import DevRenderer, Rendered, limit_of, project_of
from dap.errors import ConfigurationError, DapError, RefusedError
from dap.gpus import asking, promises
from dap.gpus.claims import of_container
from dap.layout import secrets_dir
from dap.secrets import SecretStore, store_lock
from dap.site import Site, load_site

_SECTION = "dev_containers"


@dataclass(frozen=True)
class KnownContainer:
    """A development container that is configured or there.

    Attributes:
        seen: what its host says of it; None where there is nothing, or the host did not answer.
        outdated: whether it would be made in another way now; None where that is not known.
        page: the address of its page; empty where it has none.
        code: the address of VS Code on it; empty where it has none.
        home_limit: the most bytes that its user's home may hold; 0 for no limit.
    """

    name: str
    user: str
    environment: str
    host: str
    port: int
    state: str
    seen: hosts.Seen | None
    outdated: bool | None
    page: str = ""
    home_limit: int = 0
    code: str = ""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; what is not known is null."""
        found = {key: value for key, value in vars(self).items() if key != "seen"}
        found["home_limit"] = self.home_limit or None
        more = (
            *("since", "image", "image_id", "image_built", "connections", "last_login"),
            *(
                "kernels",
                "busy_kernels",
                "last_kernel",
                "code_connections",
                "cpu",
                "gpus",
                "gpu",
                "home_used",
                "home_kept",
            ),
        )
        seen = {key: getattr(self.seen, key, None) for key in more}
        return found | {key: None if value == "" else value for key, value in seen.items()}


def find(site: Site, name: str) -> DevContainer:
    """A configured container.

    Raises:
        RefusedError: there is none of that name.
    """
    known = {box.name: box for box in site.dev_containers}
    if name not in known:
        advice = wording.one_of(name, known) if known else f"dap -e {site.inventory.name} dev create --help"
        raise RefusedError(f"there is no development container {name}", advice)
    return known[name]


def create(site: Site, entry: Mapping[str, Any]) -> tuple[Site, DevContainer, Rendered | None]:
    """Write a container into the configuration and make it.

    Returns:
        the site that has it, the container, and what was made; None where it takes a deploy.

    Raises:
        ConfigurationError: the configuration would be wrong then; it stays as it was.
        DapError: the host cannot make it; the configuration stays as it was.
    """
    inventory = site.inventory
    with edits.changed(inventory, lambda text: edits.with_item(text, _SECTION, entry)):
        now = load_site(inventory.name)
        box = now.dev_containers[-1]
        try:
            return now, box, _bring(now, box)
        except ConfigurationError:
            raise
        except (hosts.LackingError, RefusedError):
            # It has to be rendered with logins, an image or a network that only a deploy makes.
            return now, box, None


def recreate(site: Site, box: DevContainer) -> None:
    """Replace a container by one as it would be made now; what runs in it ends."""
    _bring(site, box, recreate=[box.name])


def refresh(site: Site, box: DevContainer) -> None:
    """Bring a container its keys and logins of now; what runs in it goes on."""
    _bring(site, box)


def start(site: Site, box: DevContainer) -> None:
    """Start a container that was stopped."""
    _bring(site, box, start=[box.name])


def stop(site: Site, box: DevContainer) -> None:
    """Stop a container until it is started again."""
    store = _store(site)
    hosts.ask(site, box.host, store.platform_id, "stop", name=box.name)


def remove(site: Site, box: DevContainer, *, with_home: bool) -> tuple[str, ...]:
    """Take a container out of the configuration and remove it; returns what was removed.

    Raises:
        RefusedError: the home is to go, and another container of the user on that host has it, too.
    """
    others = [
        other.name
        for other in site.dev_containers
        if other.name != box.name and (other.user.name, other.host.name) == (box.user.name, box.host.name)
    ]
    if with_home and others:
        raise RefusedError(
            f"the home of {box.user.name} on {box.host.name} is that of {', '.join(others)}, too",
            f"dap -e {site.inventory.name} dev remove {box.name}",
        )
    store = _store(site)
    home = box.user.name if with_home else ""
    with edits.changed(site.inventory, lambda text: edits.without_item(text, _SECTION, box.index)):
        load_site(site.inventory.name)
        answer = hosts.ask(site, box.host, store.platform_id, "remove", name=box.name, home=home)
    return answer.changes


def _bring(site: Site, box: DevContainer, **how: list[str]) -> Rendered:
    """Have a container's host bring it into state."""
    folder = secrets_dir() / site.inventory.name
    with store_lock(folder):
        store = _store(site)
        store.get(AUTHORITY)
        if site.platform.ssh_user_certificates:
            store.get(USER_AUTHORITY)
        store.get(host_key_of(box.name))
        if site.has_page(box):
            store.get(page_of(box.name))
        given = numbers.numbers_of(site)
        site = _with_gpus(site, box)
        # What is not known yet no service knows either.
        rendered = DevRenderer(site, Credentials(site, store, generate=False), given).render(box)
        store.save()
        known = numbers.recall(site.inventory.name)
        known.uids |= {box.user.name: given.uids[box.user.name]}
        known.gids |= given.gids
        known.ports |= {box.name: given.ports[box.name]}
        known.pages |= {name: port for name, port in given.pages.items() if name == box.name}
        known.hosts = sorted({*known.hosts, box.host.name})
        numbers.remember(site.inventory.name, known)
        promises.remember(site)
        wanted = [rendered.as_json()]
        hosts.ask(site, box.host, store.platform_id, "bring", wanted=wanted, complete=False, **how)
    return rendered


def _with_gpus(site: Site, box: DevContainer) -> Site:
    """The site in which a container has its GPUs, where it wants some.

    Raises:
        LackingError: the host's engine does not hand any out yet.
        ConfigurationError: the host does not have them.
    """
    if not box.settings.gpus:
        return site
    found = asking.ask(site.inventory.name, box.host)
    site, refused = promises.settle(site, {box.host.name: found})
    if told := refused.get(of_container(box.name)):
        raise ConfigurationError(told)
    if not found.cdi:
        raise hosts.LackingError(f"{box.host.name}: the engine hands out no devices by CDI")
    return site


def _store(site: Site) -> SecretStore:
    """The secrets of a platform that is deployed.

    Raises:
        RefusedError: it never was.
    """
    name = site.inventory.name
    store = SecretStore.load(secrets_dir() / name, name)
    if store.is_new:
        raise RefusedError(f"inventory {name} was never deployed from here", f"dap -e {name} deploy")
    return store


def listed(site: Site) -> tuple[list[KnownContainer], dict[str, str]]:
    """All containers that are configured or there, and why hosts could not be asked, by host."""
    there, unreached = hosts.seen(site, concerned(site))
    by_name = {one.name: one for one in there}
    ports, wanted = numbers.numbers_of(site).ports, _configurations(site)
    found = []
    for box in site.dev_containers:
        seen = by_name.pop(box.name, None)
        state = seen.state if seen else ("unknown" if box.host.name in unreached else "missing")
        found.append(
            KnownContainer(
                *(box.name, box.user.name, box.environment, box.host.name, ports[box.name], state),
                seen=seen,
                outdated=seen.configuration != wanted[box.name] if seen and box.name in wanted else None,
                page=site.page_url(box) if site.has_page(box) else "",
                home_limit=limit_of(site, box.user),
                code=site.page_links(box).get("VS Code", ""),
            )
        )
    # No longer configured; the next deploy removes them.
    found += [
        KnownContainer(one.name, one.user, one.environment, one.host, 0, one.state, one, True)
        for one in by_name.values()
    ]
    return found, unreached


def _configurations(site: Site) -> dict[str, str]:
    """What each container would be made from now, as far as that is known."""
    name = site.inventory.name
    try:
        store = SecretStore.load(secrets_dir() / name, name)
        credentials = Credentials(site, store, generate=False)
        renderer = DevRenderer(site, credentials, numbers.numbers_of(site))
        return {box.name: renderer.render(box).configuration for box in site.dev_containers}
    except DapError:
        return {}


def logs_argv(site: Site, box: DevContainer, *, follow: bool, lines: int) -> list[str]:
    """What to run to see the log of a container."""
    argv = ["docker", "logs", "--tail", str(lines), "--timestamps", *["--follow"] * follow]
    return argv_on(box.host, [*argv, f"{project_of(site)}-{box.name}"])


def shell_argv(site: Site, box: DevContainer) -> list[str]:
    """What to run for a shell in a container, as its user; for who has root's rights on the host anyway."""
    argv = ["docker", "exec", "--interactive", "--tty", f"{project_of(site)}-{box.name}", "bash", "--login"]
    program, *rest = argv_on(box.host, argv)
    return [program, *rest] if box.host.is_local else [program, "-t", *rest]
