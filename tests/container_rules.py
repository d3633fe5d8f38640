"""The rules that every container keeps, written down a second time, without the code that applies them.

They are asked of a service in a finished Compose file, and of a running container as the engine describes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Document = Mapping[str, Any]
Rule = Callable[[Document], bool]

SHORTEST_REASON = 20
MIB = 1024 * 1024
# Where nothing is written Docker takes it.
PRIVATE = "rprivate"
SOCKETS = re.compile(r"/(docker|containerd|podman)[^/]*\.sock\b")
# Of its own tag, the platform's images name their content; any other one needs a tag that somebody chose.
OWN_IMAGE = re.compile(r"dap/[a-z0-9-]+:[A-Za-z0-9_.-]+-[0-9a-f]{12}")
PINNED_IMAGE = re.compile(
    r"[^\s@:]+(:[0-9]+/[^\s@:]+)?(:(?!latest\b)[\w][\w.-]*|(:[\w][\w.-]*)?@sha256:[0-9a-f]{64})"
)


def _absent(key: str) -> Rule:
    return lambda service: not service.get(key)


def _image(service: Document) -> bool:
    image = service["image"]
    return bool((OWN_IMAGE if image.startswith("dap/") else PINNED_IMAGE).fullmatch(image))


def _user(service: Document) -> bool:
    found = re.fullmatch(r"(\d+):(\d+)", service.get("user", ""))
    return found is not None and min(map(int, found.groups())) >= 1000


def _limited(key: str, least: int, most: int) -> Rule:
    return lambda service: isinstance(service.get(key), int) and least <= service[key] <= most


def _logging(service: Document) -> bool:
    found = service.get("logging") or {}
    return (found.get("driver"), found.get("options")) == ("json-file", {"max-size": "10m", "max-file": "3"})


def _healthcheck(service: Document) -> bool:
    found = service.get("healthcheck") or {}
    test = found.get("test")
    return bool(test) and test not in ("NONE", ["NONE"]) and not found.get("disable")


def _volumes(service: Document) -> bool:
    """Nothing of the host can be written but the service's data, and what is mounted there is not seen here.

    Engines' sockets have their own rule.
    """
    own = f"{service['x-data']}/{service['x-name']}/"
    for mount in service.get("volumes", []):
        if not isinstance(mount, dict) or mount.get("type") != "bind":
            return False
        if mount.get("bind", {}).get("propagation", PRIVATE) != PRIVATE:
            return False
        source = mount["source"]
        writable = source.startswith(own) or source in service.get("x-folders", ())
        if not (mount.get("read_only") or writable or SOCKETS.search(source)):
            return False
    return True


def _networks(service: Document) -> bool:
    """Not in the network that all containers share which name none; Compose makes one for such a service."""
    return not {"bridge", "host"} & set(service.get("networks") or {})


def _docker_socket(service: Document) -> bool:
    return not any(SOCKETS.search(json.dumps(mount)) for mount in service.get("volumes", []))


def _ports(service: Document) -> bool:
    ports = service.get("ports", [])
    if not all(isinstance(port, dict) for port in ports):
        return False
    return {(port.get("host_ip"), int(port.get("published", 0))) for port in ports} == set(service["x-ports"])


RULES: dict[str, Rule] = {
    "image": _image,
    "user": _user,
    "read_only": lambda service: service.get("read_only") is True,
    "cap_drop": lambda service: service.get("cap_drop") == ["ALL"],
    "cap_add": _absent("cap_add"),
    "security_opt": lambda service: service.get("security_opt") == ["no-new-privileges:true"],
    "privileged": _absent("privileged"),
    "mem_limit": _limited("mem_limit", 6 * MIB, 2**50),
    # More than the memory limit would be that much of the host's swap.
    "memswap_limit": lambda service: service.get("memswap_limit") == service.get("mem_limit"),
    "pids_limit": _limited("pids_limit", 1, 32768),
    "logging": _logging,
    "restart": lambda service: service.get("restart") == ("no" if service["x-job"] else "unless-stopped"),
    "healthcheck": lambda service: service["x-job"] or _healthcheck(service),
    "volumes": _volumes,
    "docker_socket": _docker_socket,
    "ports": _ports,
    "networks": _networks,
    **{
        key: _absent(key)
        for key in (
            *("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup", "cgroup_parent"),
            *("devices", "device_cgroup_rules", "group_add", "sysctls", "oom_kill_disable", "volumes_from"),
        )
    },
}


def broken(service: Document, exceptions: Mapping[str, str]) -> list[str]:
    """What is wrong with a service, one line each.

    Args:
        service: the service as Compose reads it, and besides ``x-name``, ``x-data`` (folder of all services'
            data), ``x-ports`` (address and number of every port that may be published), ``x-job`` (whether
            it runs to its end) and, where other folders may be written, ``x-folders``.
        exceptions: the manifest's, key to reason.
    """
    found = []
    for key, keeps in RULES.items():
        if keeps(service):
            if key in exceptions:
                found.append(f"{key}: the manifest makes an exception that is not needed")
        elif key not in exceptions:
            found.append(f"{key}: {service.get(key)}, and no exception in the manifest")
        elif len(exceptions[key]) < SHORTEST_REASON:
            found.append(f"{key}: the manifest's exception has no reason")
    return found


def as_service(box: Mapping[str, Any]) -> dict[str, Any]:
    """A container as ``docker inspect`` describes it, in the words of a Compose file."""
    host, config = box["HostConfig"], box["Config"]
    mounts = [
        {
            "type": mount["Type"],
            "source": mount.get("Source", ""),
            "read_only": not mount["RW"],
            "bind": {"propagation": mount["Propagation"]},
        }
        for mount in box["Mounts"]
    ]
    network = host["NetworkMode"]
    return {
        "image": config["Image"],
        "user": config["User"],
        "read_only": host["ReadonlyRootfs"],
        "cap_drop": host["CapDrop"],
        "cap_add": host["CapAdd"],
        "security_opt": host["SecurityOpt"],
        "privileged": host["Privileged"],
        "mem_limit": host["Memory"],
        "memswap_limit": host["MemorySwap"],
        "pids_limit": host["PidsLimit"],
        "logging": {"driver": host["LogConfig"]["Type"], "options": host["LogConfig"]["Config"]},
        "restart": host["RestartPolicy"]["Name"],
        "healthcheck": {"test": (config.get("Healthcheck") or {}).get("Test")},
        "volumes": mounts,
        "ports": [
            {"host_ip": entry["HostIp"], "published": entry["HostPort"]}
            for entries in (box["NetworkSettings"]["Ports"] or {}).values()
            for entry in entries or []
        ],
        "networks": box["NetworkSettings"]["Networks"],
        "network_mode": network if network in ("host", "bridge") or ":" in network else "",
        "pid": host["PidMode"],
        # The engine's own default, which shares nothing.
        "ipc": host["IpcMode"].replace("private", "").replace("shareable", ""),
        "uts": host["UTSMode"],
        "userns_mode": host["UsernsMode"],
        "cgroup_parent": host["CgroupParent"],
        "devices": [*(host["Devices"] or []), *(host.get("DeviceRequests") or [])],
        "device_cgroup_rules": host["DeviceCgroupRules"],
        "group_add": host["GroupAdd"],
        "sysctls": host.get("Sysctls"),
        "oom_kill_disable": host["OomKillDisable"],
        "volumes_from": host["VolumesFrom"],
    }
