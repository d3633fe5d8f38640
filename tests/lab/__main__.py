"""A lab for a person: ``make lab`` and ``make lab-down``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from dap.layout import shown
from tests.integration.platform import BIN, ROOT
from tests.lab.laboratory import Lab, remove_lab
from tests.lab.machine import LABEL, docker

NAME = "daplab"
FOLDER = ROOT / ".cache" / "lab"
USE = """
The lab runs: a service host and {runners} runner hosts, with the platform on them.

  Log in:            ssh -F {ssh_config} {machines}
  Use the program:   export DAP_INVENTORIES={inventories} DAP_SECRETS={secrets} DAP_INVENTORY={name}
                     {dap} status
  Start page:        https://{domain} (this machine knows the names)
  Trust the CA:      {ca_file}
  Logins:            {dap} credentials
  Settings, hosts:   {inventory}
  Remove all of it:  make lab-down
"""


def up(runners: int) -> None:
    """Start the lab, unless it runs, and say how to use it."""
    lab = Lab(FOLDER, name=NAME, runners=runners, left_out=("gitlab",))
    if docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={NAME}").strip():
        print("There is a lab already; `make lab-down` removes it.", file=sys.stderr)
        sys.exit(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        lab.start()
        lab.write_inventory()
        lab.give_images()
        lab.must("deploy")
    except BaseException:
        lab.remove()
        raise
    print(
        USE.format(
            runners=runners,
            ssh_config=shown(lab.ssh_config),
            machines="|".join(machine.name for machine in lab.machines),
            inventories=lab.inventory.parent,
            secrets=lab.secrets.parent,
            name=NAME,
            dap=shown(BIN / "dap"),
            domain=lab.domain,
            ca_file=shown(lab.ca_file),
            inventory=shown(lab.inventory),
        )
    )


def down() -> None:
    """Remove the lab."""
    remove_lab(NAME)
    shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["up", count]:
            up(int(count))
        case ["down"]:
            down()
        case _:
            sys.exit(f"usage: {Path(sys.argv[0]).name} up RUNNERS | down")
