#!/usr/bin/python
"""Keep a platform's block of names in a host's list of names."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_hosts_file import PATH, block_of, text_of_list, with_block
from ansible.module_utils.dap_lock import host_lock

DOCUMENTATION = r"""
module: dap_names
short_description: Keep a platform's block of names in a host's list of names
author: The authors of the data analysis platform
options:
  platform: {type: str, required: true, description: "Name of the platform; each one has its own block."}
  names: {type: list, elements: str, required: true, description: "Its names; without any there is no block."}
  address: {type: str, default: "", description: The address that they lead to.}
  extra: {type: dict, default: {}, description: "Further names, each with its own address."}
  path: {type: path, default: /etc/hosts, description: The list.}
"""

EXAMPLES = r"""
- name: Make the host know the platform's names
  dap_names:
    platform: dap
    names: [dap.example.com, mlflow.dap.example.com]
    address: 192.0.2.10
"""

RETURN = r"""
changed: {type: bool, returned: always, description: Whether the block is another one now.}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "platform": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "extra": {"type": "dict", "default": {}},
            "path": {"type": "path", "default": str(PATH)},
        },
        supports_check_mode=True,
    )
    given, path = module.params, Path(module.params["path"])
    block = block_of(given["names"], given["address"], given["extra"])
    with host_lock("names"):
        before = text_of_list(path)
        after = with_block(before, given["platform"], block)
        if after != before and not module.check_mode:
            draft = Path(module.tmpdir) / "hosts"
            draft.write_text(after, encoding="utf-8", errors="surrogateescape")
            draft.chmod(0o644)
            # In a container the file is a mount of its own, which nothing can be renamed onto.
            module.atomic_move(str(draft), str(path), unsafe_writes=True)
    module.exit_json(
        changed=after != before,
        changed_items=[f"{path}: the platform's names"] if after != before else [],
        diff={"before_header": str(path), "after_header": str(path), "before": before, "after": after},
    )


if __name__ == "__main__":
    main()
