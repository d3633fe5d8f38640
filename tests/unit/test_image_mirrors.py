"""Images that take their packages from the site's mirrors."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dap.layout import compose_dir

DOCKERFILES = sorted(compose_dir().glob("*/image/Dockerfile"))
SCRIPT = compose_dir() / "debian/image/mirrors.sh"
# What runs in a Dockerfile, and the variables that tell it where to fetch from. npm reads its own from the
# environment, in which a build argument stands.
TOOLS = {
    r"/pip install|\bpip3? install": {"PIP_INDEX_URL"},
    r"uv pip|uv sync|uv tool": {"PIP_INDEX_URL", "UV_DEFAULT_INDEX"},
    r"\bgo (build|install|mod)\b": {"GOPROXY", "GOSUMDB"},
    r"\bnpm (ci|install)\b": {"npm_config_registry"},
}
OWN = """\
deb http://own.example.com/debian trixie main
deb http://own.example.com/debian-security trixie-security main
"""


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parts[-3])
def test_every_build_takes_the_mirrors_of_the_tools_that_it_runs(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    declared = set(re.findall(r"^ARG (\w+)", text, re.M))
    wanted = {name for tool, names in TOOLS.items() if re.search(tool, text) for name in names}

    assert wanted <= declared


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parts[-3])
def test_every_image_stands_upon_the_one_with_the_sites_debian_mirror(dockerfile: Path) -> None:
    stages = re.findall(r"^FROM (\S+)", dockerfile.read_text(encoding="utf-8"), re.M)

    assert stages and set(stages) == {"${BASE_IMAGE}"}


def apt_after(folder: Path, environment: dict[str, str], sources: str = OWN) -> Path:
    """Run the script on a folder in place of the root; returns its ``/etc/apt``."""
    apt = folder / "etc/apt"
    (apt / "sources.list.d").mkdir(parents=True)
    (apt / "apt.conf.d").mkdir()
    (apt / "sources.list").write_text(sources, encoding="utf-8")
    (folder / "etc/os-release").write_text("VERSION_CODENAME=trixie\n", encoding="utf-8")
    (folder / "ca").write_text("a CA\n", encoding="ascii")
    script = SCRIPT.read_text(encoding="utf-8")
    for inside, here in (("/etc/", "etc/"), ("/run/secrets/ca", "ca"), ("/usr/share/keyrings/", "keyrings/")):
        script = script.replace(inside, f"{folder}/{here}")
    script = script.replace("/tmp/dap.sources", f"{folder}/dap.sources")  # noqa: S108 - the image's
    subprocess.run(["sh", "-c", script], env={"PATH": "/usr/bin:/bin", **environment}, check=True)
    return apt


def test_without_mirrors_the_sources_stay(tmp_path: Path) -> None:
    apt = apt_after(tmp_path, {"DEBIAN_MIRROR": "", "DEBIAN_SECURITY_MIRROR": ""})

    assert (apt / "sources.list").read_text(encoding="utf-8") == OWN
    assert not (apt / "sources.list.d/debian.sources").exists()


def test_both_mirrors_replace_all_sources(tmp_path: Path) -> None:
    given = {
        "DEBIAN_MIRROR": "http://m.example.com/debian",
        "DEBIAN_SECURITY_MIRROR": "http://m.example.com/sec",
    }

    apt = apt_after(tmp_path, given)

    assert not (apt / "sources.list").exists()
    assert (apt / "sources.list.d/debian.sources").read_text(encoding="utf-8") == (
        "Types: deb\nURIs: http://m.example.com/debian\nSuites: trixie trixie-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://m.example.com/sec\nSuites: trixie-security\nComponents: main\n\n"
    )
    assert not list((apt / "apt.conf.d").iterdir())


@pytest.mark.parametrize(
    ("name", "main", "security"),
    [
        ("DEBIAN_MIRROR", "http://m.example.com/x", "http://own.example.com/debian-security"),
        ("DEBIAN_SECURITY_MIRROR", "http://own.example.com/debian", "http://m.example.com/x"),
    ],
)
def test_one_mirror_leaves_the_other_part_where_it_was(
    tmp_path: Path, name: str, main: str, security: str
) -> None:
    apt = apt_after(tmp_path, {name: "http://m.example.com/x"})

    text = (apt / "sources.list.d/debian.sources").read_text(encoding="utf-8")
    assert re.findall(r"URIs: (\S+)", text) == [main, security]


def test_a_mirror_with_tls_is_checked_by_what_the_host_trusts(tmp_path: Path) -> None:
    apt = apt_after(tmp_path, {"DEBIAN_MIRROR": "https://m.example.com/debian"})

    assert (apt / "mirror-ca.crt").read_text(encoding="ascii") == "a CA\n"
    assert (apt / "apt.conf.d/90mirror-ca").read_text(encoding="utf-8") == (
        f'Acquire::https::CAInfo "{apt}/mirror-ca.crt";\n'
    )


def test_a_mirror_before_the_host_has_no_security_sources_is_enough(tmp_path: Path) -> None:
    apt = apt_after(tmp_path, {"DEBIAN_MIRROR": "http://m.example.com/debian"}, OWN.splitlines()[0] + "\n")

    assert "security" not in (apt / "sources.list.d/debian.sources").read_text(encoding="utf-8")
