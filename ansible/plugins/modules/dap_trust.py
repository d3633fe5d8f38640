#!/usr/bin/python
"""Makes a host trust exactly the platform's certificate authorities, beside those it trusts anyway."""

from __future__ import annotations

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_certificates import (
    strays,
    untrusted,
    wanted_files,
)
from ansible.module_utils.dap_probe import search_path, text_of

DOCUMENTATION = r"""
module: dap_trust
short_description: Make a host trust a platform's certificate authorities
description:
  - Puts them into the host's store of local authorities and rebuilds its bundle, only if something has
    changed or an earlier run was interrupted before the bundle was rebuilt.
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


def names_in(folder: Path) -> list[str]:
    """File names in a folder; none when it does not exist. Dangling links count."""
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def put(module: AnsibleModule, folder: Path, files: dict[str, str], removed: list[str]) -> None:
    """Write files, each in one step, then remove others.

    Args:
        module: the running module.
        folder: where they belong; made when missing.
        files: content by name.
        removed: names of the others.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, content in files.items():
        draft = Path(module.tmpdir) / name
        draft.write_text(content, encoding="utf-8")
        draft.chmod(0o644)
        module.atomic_move(str(draft), str(folder / name))
    for name in removed:
        (folder / name).unlink(missing_ok=True)


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
            "folder": {"type": "path", "default": "/usr/local/share/ca-certificates"},
            "store": {"type": "path", "default": "/etc/ssl/certs"},
        },
        supports_check_mode=True,
    )
    name, folder, store = module.params["name"], Path(module.params["folder"]), Path(module.params["store"])
    try:
        wanted = wanted_files(name, module.params["certificates"])
    except ValueError as error:
        module.fail_json(msg=f"one of the certificate authorities cannot be used: {error}")
    stems = {file.rsplit(".", 1)[0] for file in wanted}
    new = {file: pem for file, pem in wanted.items() if text_of(str(folder / file)) != pem}
    removed = strays(name, stems, names_in(folder))
    # What an interrupted run left undone shows in the store: a link to a removed one, a wanted one missing.
    bundle = store / "ca-certificates.crt"
    left_over = strays(name, stems, names_in(store))
    undone = left_over or untrusted(text_of(str(bundle)), wanted)
    tool = shutil.which(_TOOL, path=search_path())
    done = [f"trusts {folder / file}" for file in sorted(new)]
    done += [f"no longer trusts {folder / file}" for file in removed]
    if tool and undone and not done:
        done = [f"rebuilds {bundle}"]
    if not module.check_mode:
        if new or removed:
            put(module, folder, new, removed)
        if tool and done:
            rebuild(module, tool, bool(removed or left_over))
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
