"""The operator's own certificate (tls.mode: files), issued by a CA of the site."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

import yaml

from dap.trust.certificates import ensure_ca, ensure_leaf
from tests.integration.platform import DeployedPlatform


def issue(platform: DeployedPlatform, folder: Path, names: list[str]) -> None:
    """Write site.crt, site.key and site-ca.pem into the inventory, as an operator would."""
    authority = ensure_ca(folder, "site", "")
    leaf = ensure_leaf(authority, folder, "site", dns_names=names)
    (platform.inventory / "site.crt").write_bytes(leaf.certificate_pem)
    (platform.inventory / "site.key").write_text(leaf.key_pem.reveal())
    (platform.inventory / "site.key").chmod(0o600)
    (platform.inventory / "site-ca.pem").write_bytes(authority.certificate_pem)


def use_files(settings: str) -> str:
    """The settings with the operator's own certificate."""
    changed = yaml.safe_load(settings)
    changed["tls"] = {"mode": "files", "certificate": "site.crt", "key": "site.key"}
    changed["trust"] = {"extra_cas": ["site-ca.pem"]}
    return yaml.safe_dump(changed)


def test_own_certificate_is_served_everywhere_and_can_be_given_up_again(
    platform: DeployedPlatform, tmp_path: Path
) -> None:
    settings = platform.settings_file.read_text(encoding="utf-8")
    issue(platform, tmp_path, [platform.domain, f"*.{platform.domain}"])
    context = ssl.create_default_context(cafile=str(platform.inventory / "site-ca.pem"))
    user, password = platform.login("Project demo: database")
    try:
        platform.settings_file.write_text(use_files(settings), encoding="utf-8")
        platform.must("deploy")
        with urllib.request.urlopen(platform.url() + "/healthz", context=context) as answer:  # noqa: S310
            assert answer.status == 200
            assert "Strict-Transport-Security" not in answer.headers, "only for a public CA"
        with platform.postgres("demo", user, password, platform.inventory / "site-ca.pem") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert platform.dap("ca", "export").returncode == 2
    finally:
        platform.settings_file.write_text(settings, encoding="utf-8")
        platform.deploy()
    with urllib.request.urlopen(platform.url() + "/healthz", context=platform.trust) as answer:  # noqa: S310
        assert answer.status == 200


def test_certificate_that_lacks_names_is_refused_before_any_host_is_touched(
    platform: DeployedPlatform, tmp_path: Path
) -> None:
    settings = platform.settings_file.read_text(encoding="utf-8")
    before = platform.container_ids()
    issue(platform, tmp_path, [platform.domain])
    try:
        platform.settings_file.write_text(use_files(settings), encoding="utf-8")
        done = platform.dap("deploy")
    finally:
        platform.settings_file.write_text(settings, encoding="utf-8")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "tls.certificate" in done.stderr
    assert f"mlflow.{platform.domain}" in done.stderr
    assert platform.container_ids() == before
