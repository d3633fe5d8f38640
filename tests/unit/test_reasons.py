"""Why a container would be replaced, in words, out of what Compose prints of the files."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plugins import load

reasons = load("ansible.module_utils.dap_reasons").reasons

GIB = 1 << 30
BASE: dict[str, Any] = {
    "image": "dap/web:1-aaa",
    "mem_limit": str(2 * GIB),
    "memswap_limit": str(2 * GIB),
    "environment": {"TZ": "UTC", "MODE": "fast"},
    "labels": {"dap.service": "web", "dap.configuration.inventory": "1"},
    "networks": {"default": {"aliases": ["web", "web.example.com"]}},
    "ports": [{"host_ip": "127.0.0.1", "published": "443", "target": 8443, "protocol": "tcp"}],
    "volumes": [{"type": "bind", "source": "/a", "target": "/etc/dap"}],
    "depends_on": {"db": {"condition": "service_healthy"}},
}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"image": "dap/web:1-bbb"}, ["image dap/web 1-aaa → 1-bbb"]),
        (
            {"image": "registry.example.com:5000/web:2"},
            ["image dap/web:1-aaa → registry.example.com:5000/web:2"],
        ),
        ({"mem_limit": str(3 * GIB), "memswap_limit": str(3 * GIB)}, ["memory 2g → 3g"]),
        ({"mem_limit": str(1536 << 20)}, ["memory 2g → 1536m"]),
        ({"cpus": 2}, ["CPUs no limit → 2"]),
        ({"environment": {"TZ": "CET", "NEW": "secret?"}}, ["environment +NEW -MODE TZ"]),
        ({"environment": None}, ["environment -MODE -TZ"]),
        (
            {"networks": {"default": {"aliases": ["web", "a.example.com"]}}},
            ["names on the network +a.example.com -web.example.com"],
        ),
        ({"networks": {"default": {}, "other": {}}}, ["networks"]),
        (
            {"ports": [{**BASE["ports"][0], "published": "8443"}]},
            ["ports +127.0.0.1:8443->8443 -127.0.0.1:443->8443"],
        ),
        ({"volumes": [{**BASE["volumes"][0], "source": "/b"}]}, ["mounts /etc/dap"]),
        (
            {"labels": {**BASE["labels"], "dap.configuration.inventory": "2"}},
            ["trusted certificate authorities"],
        ),
        ({"labels": {**BASE["labels"], "team": "red"}}, ["labels team"]),
        ({"stop_grace_period": "5s", "cap_drop": ["ALL"]}, ["cap drop", "stop grace period"]),
        ({"depends_on": {}}, ["waits for -db"]),
        ({"command": None, "profiles": ["jobs"]}, []),
    ],
)
def test_each_setting_has_its_words(changed: dict[str, Any], told: list[str]) -> None:
    assert reasons(BASE, {**BASE, **changed}, []) == told


def test_changed_files_stand_for_the_label_that_counts_them_and_certificates_do_not_count() -> None:
    labels = {**BASE["labels"], "dap.configuration.inventory": "2"}
    files = ["tls/tls.crt", "secrets/key", "config/web.conf", "compose.yaml"]
    new = {**BASE, "labels": labels, "cpus": 1}
    assert reasons(BASE, new, files) == ["CPUs no limit → 1", "config/web.conf", "secrets/key"]
