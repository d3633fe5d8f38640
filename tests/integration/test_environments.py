"""Environments as containers have them, for any user and read-only, and what is told of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import DeployedPlatform, docker
from tests.integration.small import change_settings
from tests.unit.platforms import tree_of

# A development container's rights, with a user number that the image does not know.
ANYBODY = (
    *("run", "--rm", "--interactive", "--network", "none", "--read-only", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--user", "20001:20001"),
    *("--tmpfs", "/tmp:exec,mode=1777", "--env", "HOME=/tmp/home", "--workdir", "/tmp"),  # noqa: S108  in it
)
BASE = """
set -eu
test "$(locale charmap)" = UTF-8
for program in bash curl git nano psql ps rsync scp sftp ssh ssh-keygen tar uv vi; do
  command -v "${program}" > /dev/null || echo "no ${program}"
done
test -x /usr/sbin/sshd -a -x /usr/lib/openssh/sftp-server
find /etc/ssh -name 'ssh_host_*'
# Files that only their owner may read.
find / -xdev -type f ! -readable -printf '%p\\n' 2>/dev/null || true
"""
# What Debian's packages keep from everybody: passwords, locks and logs of nobody here.
HIDDEN = (
    *("/etc/shadow", "/etc/gshadow", "/etc/.pwd.lock", "/etc/security/opasswd"),
    *("/var/log/", "/var/cache/", "/var/lib/apt/", "/var/lib/dpkg/", "/root/"),
)
PYTHON = """
import importlib, sys
for name in (
    "boto3 duckdb dvc ipykernel jupyterlab matplotlib.pyplot mlflow numpy pandas psycopg pyarrow s3fs"
    " sklearn.linear_model sqlalchemy"
).split():
    importlib.import_module(name)
# All is compiled, so nothing has to be.
import pandas, pathlib
assert list((pathlib.Path(pandas.__file__).parent / "__pycache__").glob("__init__.*.pyc"))
print(sys.version_info[:2], sys.executable)
"""
NOTEBOOK = {
    "python3": "import pandas; print(pandas.Series([20, 22]).sum())",
    "ir": "library(data.table); cat(data.table(a = c(20, 22))[, sum(a)])",
}
R = """
for (name in c("DBI", "RPostgreSQL", "httr2", "jsonlite", "dplyr", "ggplot2", "renv"))
  suppressMessages(library(name, character.only = TRUE))
cat(reticulate::import("numpy")$sum(c(40, 2)))
"""
# A package of a user's own, from a mirror.
CRAN = """
set -eu
cd /tmp
mkdir -p tiny/R cran/src/contrib
printf 'Package: tiny\\nVersion: 1.0\\nTitle: T\\nDescription: D.\\nLicense: GPL-3\\n' > tiny/DESCRIPTION
echo 'export(answer)' > tiny/NAMESPACE
echo 'answer <- function() 42' > tiny/R/answer.R
R CMD build tiny >/dev/null
mv tiny_1.0.tar.gz cran/src/contrib
Rscript -e 'invisible(tools::write_PACKAGES("cran/src/contrib"))'
R_CRAN_WEB=file:///tmp/cran Rscript -e 'install.packages("tiny", quiet = TRUE)'
Rscript -e 'cat(tiny::answer(), getOption("repos"))'
"""
# Debian's PyTorch with PyPI's numpy, and processes that share memory.
TORCH = """
import numpy, torch
from torch.utils.data import DataLoader, TensorDataset
x = torch.tensor(numpy.array([1.0, 2.0]), requires_grad=True)
(x * x).sum().backward()
loader = DataLoader(TensorDataset(torch.ones(8, 1)), batch_size=4, num_workers=2)
print(x.grad.numpy().tolist(), sum(len(rows) for rows, in loader))
"""


@pytest.fixture(scope="module")
def platform(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedPlatform]:
    """An inventory with an environment of its own, whose images are built; nothing is deployed."""
    own = DeployedPlatform(tmp_path_factory.mktemp("environments"))
    own.write_inventory()
    manifest = "summary: For a test\nparent: base\nsize: small\nvariants: {bare: {summary: Without a tree}}\n"
    files = {"environment.yml": manifest, "packages.txt": "tree\n", "bare/packages.txt": "# Nothing.\n"}
    tree_of(own.inventory / "environments" / own.name, files)
    try:
        own.must("image", "build", "python-r", own.name)
        yield own
    finally:
        shutil.rmtree(own.root, ignore_errors=True)
        tags = docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"dap/{own.name}").split()
        subprocess.run(["docker", "rmi", *tags], capture_output=True, check=False)


def images(platform: DeployedPlatform) -> dict[str, dict[str, str]]:
    """What is told of each image that is not an older one, by name."""
    told = json.loads(platform.must("image", "list", "--json"))
    return {one["name"]: one for one in told if one["use"] != "older"}


def said(image: str, script: str, *command: str) -> str:
    """What a script prints in a container of an image, of which it is the standard input."""
    argv = ["docker", *ANYBODY, image, *command]
    done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_base_has_what_sessions_need_and_no_secret(platform: DeployedPlatform) -> None:
    told = said(images(platform)["base"]["tag"], BASE, "sh").splitlines()
    assert [line for line in told if not line.startswith(HIDDEN)] == []


def test_python_works_for_any_user(platform: DeployedPlatform) -> None:
    tag = images(platform)["python"]["tag"]
    assert said(tag, PYTHON, "python") == "(3, 13) /usr/bin/python"
    # Shells of every kind find it, also those that know only the system's own path.
    assert said(tag, "python - <<'E'\nimport pandas\nE\n", "env", "-i", "bash", "--login") == ""
    # A project's own environment has the packages, too.
    own = "uv --quiet venv --system-site-packages .venv && .venv/bin/python -c 'import sklearn, mlflow'"
    assert said(tag, own, "sh") == ""


def test_image_says_who_works_in_a_container_of_it(platform: DeployedPlatform) -> None:
    tag = images(platform)["python"]["tag"]
    (labels,) = json.loads(docker("image", "inspect", "--format", "[{{json .Config.Labels}}]", tag))
    (told,) = json.loads(labels["devcontainer.metadata"])
    # As tools start it that know the label: with a command of their own, and a folder of the user's in it.
    work = "id -un; pwd; touch ~/mine && python -c 'import pandas; print(pandas.Series([42]).sum())'"
    assert told.keys() == {"remoteUser"}
    argv = ["--network=none", "--user", told["remoteUser"], "--entrypoint", "/bin/sh", tag, "-c", work]
    assert docker("run", "--rm", *argv).split() == ["analyst", "/home/analyst", "42"]


def test_notebooks_run_in_python_and_r(platform: DeployedPlatform) -> None:
    tag = images(platform)["python-r"]["tag"]
    assert said(tag, R, "Rscript", "-") == "42"
    assert said(tag, CRAN, "sh") == "42 https://cloud.r-project.org"
    for kernel, code in NOTEBOOK.items():
        cell: dict[str, Any] = {"cell_type": "code", "id": "one", "metadata": {}, "source": code}
        cell |= {"outputs": [], "execution_count": None}
        metadata = {"kernelspec": {"name": kernel, "display_name": kernel}}
        book = {"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
        run = ["jupyter", "nbconvert", "--stdin", "--execute", "--to", "notebook", "--stdout"]
        (done,) = json.loads(said(tag, json.dumps(book), *run))["cells"]
        assert "".join(done["outputs"][0]["text"]).strip() == "42"


def test_models_are_trained_in_the_large_one(platform: DeployedPlatform) -> None:
    platform.must("image", "build", "ml")
    assert said(images(platform)["ml"]["tag"], TORCH, "python") == "[2.0, 4.0] 8"


def test_changed_list_is_a_new_image_and_the_difference_is_told(platform: DeployedPlatform) -> None:
    name = platform.name
    before = images(platform)[name]
    base = images(platform)["base"]
    assert (before["parent"], before["use"]) == (base["tag"], "unused")
    assert before["digest"].startswith("sha256:") and before["size"] > base["size"]
    refused = platform.dap("image", "diff", name)
    assert (refused.returncode, refused.stderr.replace(".venv/bin/dap", "dap")) == (
        2,
        f"error: localhost has one build of {name}, and none to compare it with\n"
        f"  next: name two of: dap -e {name} image list\n",
    )
    (platform.inventory / "environments" / name / "packages.txt").write_text("# another\nbc\n")
    platform.must("image", "build", name)
    assert images(platform)[name]["tag"] != before["tag"]
    told = json.loads(platform.must("image", "diff", name, "--json"))
    assert [(one["name"], one["before"] != "", one["after"] != "") for one in told["changes"]] == [
        ("bc", False, True),
        ("tree", True, False),
    ]
    # What is upon it brings just what its lists say.
    brought = json.loads(platform.must("image", "diff", "base", "python", "--json"))["changes"]
    assert {one["before"] for one in brought} == {""}
    assert {one["kind"] for one in brought} == {"deb", "pypi"}


def test_bill_of_materials_has_the_packages_of_all_managers(platform: DeployedPlatform) -> None:
    told = json.loads(platform.must("image", "sbom", "python-r"))
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.5")
    names = {one["purl"].partition("@")[0] for one in told["components"]}
    assert names >= {"pkg:deb/debian/openssh-server", "pkg:deb/debian/r-base-core", "pkg:pypi/scikit-learn"}
    locked = Path("environments/python/requirements.txt").read_text(encoding="utf-8")
    pinned = {line.split("==")[0] for line in locked.splitlines() if "==" in line and ";" not in line}
    assert {f"pkg:pypi/{name}" for name in pinned} <= names
    assert len({one["bom-ref"] for one in told["components"]}) == len(told["components"])


def test_variant_is_an_image_of_its_own_upon_the_same_and_says_so(platform: DeployedPlatform) -> None:
    name = platform.name
    usual = images(platform)[name]
    before = change_settings(platform, environment_variants={name: "bare"})
    try:
        platform.must("image", "build", name)
        bare = images(platform)[name]
    finally:
        platform.settings_file.write_text(before, encoding="utf-8")
    assert bare["tag"].startswith(f"dap/{name}:trixie-bare-")
    assert bare["digest"] != usual["digest"] and bare["parent"] == usual["parent"]
    assert said(bare["tag"], "", "sh", "-c", "command -v tree bc || echo neither") == "neither"
