#!/usr/bin/python
"""Makes a host trust exactly the platform's certificate authorities, beside those it trusts anyway."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_certificates import wanted_files
from ansible.module_utils.dap_lock import host_lock
from ansible.module_utils.dap_probe import search_path
from ansible.module_utils.dap_trusted import FOLDER, REGISTRIES, STORE, Plan, lack_of

DOCUMENTATION = r"""
module: dap_trust
short_description: Make a host trust a platform's certificate authorities
description:
  - Puts them into the host's store of local authorities and rebuilds its bundle, only if something has
    changed or an earlier run was interrupted before the bundle was rebuilt.
  - Puts them where Docker looks for the authorities of a container registry, too; a running engine reads
    them at its next request, while it reads the host's bundle only when it starts.
  - Authorities that the platform no longer names are removed; others are left alone.
author: The authors of the data analysis platform
options:
  name:
    description: Name of the platform; its files begin with it.
    type: str
    required: true
  certificates:
    description: The authorities, PEM; one text may hold several certificates.
    type: list
    elements: str
    required: true
  registries:
    description: Container registries for which Docker is to trust them, each as host name or name:port.
    type: list
    elements: str
    default: []
  registry_folder:
    description: Docker's folder with one folder for each registry.
    type: path
    default: /etc/docker/certs.d
  folder:
    description: The host's folder of local authorities.
    type: path
    default: /usr/local/share/ca-certificates
  store:
    description: The host's folder of trusted certificates, with the bundle in it.
    type: path
    default: /etc/ssl/certs
"""

EXAMPLES = r"""
- name: Trust the platform's authorities
  dap_trust:
    name: dap
    certificates: ["{{ lookup('ansible.builtin.file', 'ca.crt') }}"]
    registries:
      - registry.example.com:5000
"""

RETURN = r"""
package_missing:
  description: The files are there, but the package that builds the bundle (ca-certificates) is not installed.
  type: bool
  returned: success
changed_items:
  description: What was done, in words.
  type: list
  elements: str
  returned: success
"""

_TOOL = "update-ca-certificates"


def put(module: AnsibleModule, plan: Plan) -> None:
    """Write the new files, each in one step, then remove the others."""
    plan.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, content in plan.new.items():
        draft = Path(module.tmpdir) / name
        draft.write_text(content, encoding="utf-8")
        draft.chmod(0o644)
        module.atomic_move(str(draft), str(plan.folder / name))
    for name in plan.removed:
        (plan.folder / name).unlink(missing_ok=True)


def put_for_registries(module: AnsibleModule, plans: list[Plan], folder: Path) -> None:
    """Write and remove the files of registries; folders that are empty after it go, too."""
    for plan in plans:
        put(module, plan)
        with contextlib.suppress(OSError):
            plan.folder.rmdir()
    if any(plan.removed for plan in plans):
        with contextlib.suppress(OSError):
            folder.rmdir()


def rebuild(module: AnsibleModule, tool: str, removed: bool) -> None:
    """Build the bundle and its links anew.

    Args:
        module: the running module.
        tool: path of ``update-ca-certificates``.
        removed: something was taken away; its links stay behind unless all are made afresh.
    """
    argv = [tool, "--fresh"] if removed else [tool]
    code, out, err = module.run_command(argv, environ_update={"PATH": search_path()})
    if code:
        module.fail_json(msg=f"{_TOOL} failed ({code}): {(err or out).strip()}")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "certificates": {"type": "list", "elements": "str", "required": True},
            "registries": {"type": "list", "elements": "str", "default": []},
            "registry_folder": {"type": "path", "default": str(REGISTRIES)},
            "folder": {"type": "path", "default": str(FOLDER)},
            "store": {"type": "path", "default": str(STORE)},
        },
        supports_check_mode=True,
    )
    name, folder, store = module.params["name"], Path(module.params["folder"]), Path(module.params["store"])
    try:
        wanted = wanted_files(name, module.params["certificates"])
    except ValueError as error:
        module.fail_json(msg=f"one of the certificate authorities cannot be used: {error}")
    with host_lock("trust"):
        registry_folder = Path(module.params["registry_folder"])
        lack = lack_of(
            name,
            module.params["certificates"],
            module.params["registries"],
            folder=folder,
            store=store,
            registry_folder=registry_folder,
        )
        new, removed = lack.authorities.new, lack.authorities.removed
        tool = shutil.which(_TOOL, path=search_path())
        done = [f"trusts {folder / file}" for file in sorted(new)]
        done += [f"no longer trusts {folder / file}" for file in removed]
        if tool and (lack.left_over or lack.untrusted) and not done:
            done = [f"rebuilds {store / 'ca-certificates.crt'}"]
        if not module.check_mode:
            if new or removed:
                put(module, lack.authorities)
            if tool and done:
                rebuild(module, tool, bool(removed or lack.left_over))
            put_for_registries(module, lack.registries, registry_folder)
        done += [
            f"Docker {'trusts' if entry.new else 'no longer trusts'} the authorities for {entry.folder.name}"
            for entry in lack.registries
        ]
    module.exit_json(
        changed=bool(done),
        package_missing=tool is None and bool(wanted),
        changed_items=done,
        message="; ".join(done) or "trusts them already",
        diff={
            "before_header": str(folder),
            "after_header": str(folder),
            "before": "".join(f"{file}\n" for file in sorted((set(wanted) | set(removed)) - set(new))),
            "after": "".join(f"{file}\n" for file in sorted(wanted)),
        },
    )


if __name__ == "__main__":
    main()
