"""Images that users pull to machines of their own, with a login that lets them do nothing else."""

from __future__ import annotations

import base64
import json
import re

import httpx
import yaml
from testinfra.host import Host

from tests.lab.laboratory import Lab
from tests.lab.machine import Machine, wait_for

BACK_SECONDS = 60
ENVIRONMENTS = {"dap/base", "dap/python", "dap/python-r"}


def client_of(machine: Machine, registry: str, user: str, password: str) -> list[str]:
    """Docker's client on a machine, logged in to the registry."""
    folder = f"/tmp/as-{user}"  # noqa: S108  the machine's own
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    machine.run("mkdir", "--parents", folder)
    machine.write(f"{folder}/config.json", json.dumps({"auths": {registry: {"auth": auth}}}), 0o600)
    return ["docker", "--config", folder]


def test_users_pull_what_hosts_run_and_push_nothing(lab: Lab, service_host: Host) -> None:
    # It trusts the platform's CA, as a user's own machine does, and has the images' layers already.
    machine, registry = lab.machine("runner1"), f"registry.{lab.domain}"
    login = lab.login("Environments' images, to pull")
    with httpx.Client(verify=lab.trust, auth=lab.login("Platform login"), trust_env=False) as web:
        page = web.get(f"{lab.url()}/my/").text
    (image,) = re.findall(rf"{re.escape(registry)}/dap/base:[\w.-]+", page)
    assert login[1] in page
    user = client_of(machine, registry, *login)
    secret = yaml.safe_load((lab.secrets / "secrets.yml").read_text(encoding="utf-8"))
    own = client_of(machine, registry, "dap", secret["values"]["registry.password"])
    another = f"{registry}/dap/base:another"
    try:
        assert image in machine.run(*user, "pull", image)
        machine.run("docker", "tag", image, another)
        told = machine.run("sh", "-c", f"{' '.join([*user, 'push', another])} 2>&1 || echo refused")
        assert "denied: this login may only read" in told and told.endswith("refused\n")
        machine.run(*own, "push", another)
    finally:
        for name in (image, another):
            machine.succeeds("docker", "image", "rm", name)

    with httpx.Client(base_url=f"https://{registry}/v2/", verify=lab.trust, auth=login) as web:
        assert web.get("dap/base/tags/list").json()["tags"] == sorted([image.rpartition(":")[2], "another"])
        for method, path in [("DELETE", "manifests/another"), ("PUT", "manifests/x"), ("PATCH", "blobs/x")]:
            answer = web.request(method, f"dap/base/{path}")
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, "DENIED")
        # What nobody is to pull goes at the next start, and no other.
        service_host.check_output("docker restart dap-registry")
        wait_for(lambda: web.get("").status_code == 200, BACK_SECONDS, "the registry is back")
        assert web.get("dap/base/tags/list").json()["tags"] == [image.rpartition(":")[2]]
        assert {*web.get("_catalog").json()["repositories"]} == ENVIRONMENTS
    try:
        machine.run(*user, "pull", image)
    finally:
        machine.succeeds("docker", "image", "rm", image)
        machine.run("rm", "--recursive", user[2], own[2])
    assert lab.deploy() == 0
