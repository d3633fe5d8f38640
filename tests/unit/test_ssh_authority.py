"""Host keys and their certificates, as OpenSSH reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dap.secrets import Secret
from dap.trust.ssh import SshKey


def keygen(*arguments: str) -> str:
    return subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=True).stdout


def test_key_is_the_same_for_the_same_text_and_openssh_reads_it(tmp_path: Path) -> None:
    key, file = SshKey.of(Secret("alpha")), tmp_path / "key"
    file.write_text(key.private.reveal())
    file.chmod(0o600)
    assert keygen("-y", "-f", str(file)).strip() == key.public
    again = SshKey.of(Secret("alpha"))
    assert (again.public, again.private) == (key.public, key.private)
    assert SshKey.of(Secret("beta")).public != key.public


def test_certificate_names_the_host_and_is_signed_by_the_authority(tmp_path: Path) -> None:
    authority, host = SshKey.of(Secret("authority")), SshKey.of(Secret("host"))
    certificate = authority.sign_host(host, "ada-python", ["ada-python", "ada-python.dap.example.com"])
    file = tmp_path / "key-cert.pub"
    file.write_text(f"{certificate}\n")
    # It prints a certificate only after it has checked the signature.
    told = keygen("-L", "-f", str(file))
    for line in (
        "Type: ssh-ed25519-cert-v01@openssh.com host certificate",
        'Key ID: "ada-python"',
        "Valid: forever",
        "Principals: \n                ada-python\n                ada-python.dap.example.com\n",
    ):
        assert line in told
    public = tmp_path / "authority.pub"
    public.write_text(f"{authority.public}\n")
    fingerprint = keygen("-l", "-f", str(public)).split()[1]
    assert f"Signing CA: ED25519 {fingerprint}" in told
    assert (
        authority.sign_host(host, "ada-python", ["ada-python", "ada-python.dap.example.com"]) == certificate
    )
