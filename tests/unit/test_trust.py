"""Which files make a host trust the platform's certificate authorities."""

from __future__ import annotations

import pytest

from module_utils.dap_certificates import fingerprints, strays, untrusted, wanted_files


def pem(body: str, width: int = 64) -> str:
    lines = [body[start : start + width] for start in range(0, len(body), width)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


FIRST = pem("QUJD" * 40)
SECOND = pem("REVG" * 40)


def test_each_certificate_gets_a_file_of_its_own() -> None:
    files = wanted_files("dap", [f"# the site's\n{FIRST}{SECOND}", FIRST])

    assert sorted(files.values()) == sorted([FIRST, SECOND])
    assert all(name.startswith("dap-") and name.endswith(".crt") for name in files)


def test_another_spelling_of_a_certificate_is_the_same_file() -> None:
    assert wanted_files("dap", [pem("QUJD" * 40, width=76).replace("\n", "\r\n")]) == wanted_files(
        "dap", [FIRST]
    )


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nQUJ\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"certificate"):
        fingerprints(text)


def test_only_this_platforms_former_authorities_are_strays() -> None:
    (wanted,) = wanted_files("dap", [FIRST])
    there = [
        wanted,
        wanted.replace(".crt", ".pem"),
        "dap-0123456789abcdef.crt",
        "dap-0123456789abcdef.pem",
        "dap-lab-0123456789abcdef.crt",
        "site-ca.crt",
        "dap-notes.crt",
    ]

    assert strays("dap", {wanted.removesuffix(".crt")}, there) == [
        "dap-0123456789abcdef.crt",
        "dap-0123456789abcdef.pem",
    ]


def test_bundle_that_lacks_an_authority_is_noticed() -> None:
    files = wanted_files("dap", [FIRST, SECOND])

    assert untrusted(FIRST + SECOND, files) == []
    assert [files[name] for name in untrusted(FIRST, files)] == [SECOND]
