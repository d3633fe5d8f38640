"""Whether a certificate is publicly trusted, which decides on HSTS."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from dap.trust import tls
from dap.trust.certificates import ensure_ca, ensure_leaf


def test_certificate_of_a_private_ca_is_not_public(tmp_path: Path) -> None:
    leaf = ensure_leaf(ensure_ca(tmp_path, "site", ""), tmp_path, "site", ["dap.example.com"])
    assert tls.is_public(leaf, "dap.example.com") is False


def test_certificate_of_a_ca_on_the_browsers_list_is_public(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = ensure_ca(tmp_path, "site", "")
    leaf = ensure_leaf(authority, tmp_path, "site", ["dap.example.com"])
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "ca.crt"))
    assert x509.load_pem_x509_certificates((tmp_path / "ca.crt").read_bytes()) == [authority.certificate]
    assert tls.is_public(leaf, "dap.example.com") is True
    assert tls.is_public(leaf, "other.example.com") is False
