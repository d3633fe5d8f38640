"""Images of environments that users pull from the platform's registry: which ones, and with which login."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from dap import rotation
from dap.credentials import Credentials
from dap.dev import user_pages
from dap.images import sharing
from dap.secrets import SecretStore
from dap.site import Site
from dap.verify import CheckError, Place
from dap.verify.registry import registry as check_of_registry
from tests.rendering import render
from tests.unit.dev_sites import refusal, site_with
from tests.unit.platforms import service_of

ADA = {"user": "ada", "environment": "python"}
EVE = {"user": "eve", "environment": "base"}
WHAT = "Environments' images, to pull"


@dataclass(frozen=True)
class Asked(Place):
    """A place from which a registry is reached that is made up: what it answers, by method, user and path."""

    answers: dict[str, int] = field(default_factory=dict)
    status: int = 200

    def client(self, *, login: bool = False) -> httpx.Client:
        def answer(request: httpx.Request) -> httpx.Response:
            given = " with a login" if "authorization" in request.headers else ""
            asked = f"{request.method} {request.url.path}{given}"
            if (status := self.answers.get(asked, self.status)) == 0:
                raise httpx.ConnectError("refused")
            return httpx.Response(status)

        return httpx.Client(transport=httpx.MockTransport(answer))


def place_in(site: Site, folder: Path, **answers: Any) -> Asked:
    return Asked(site, Credentials(site, SecretStore(folder / "secrets.yml", "team")), Path(), **answers)


def test_one_host_has_a_registry_where_users_pull(folder: Path) -> None:
    site = site_with(folder, ADA, EVE, share_environments=True, ports={"https": 8443})
    images = {image.name: image.source for image in sharing.shared(site)}
    assert images.keys() == {"base", "python"}
    assert images["python"].startswith("registry.dap.example.com:8443/dap/python:trixie-")
    assert sharing.shared(site_with(folder, ADA)) == []
    assert "registry" not in site_with(folder, ADA).services


def test_images_without_a_registry_are_refused(folder: Path) -> None:
    off = {"registry": {"enabled": False}}
    assert refusal(folder, ADA, share_environments=True, services=off) == [
        "share_environments = true: needs the service registry, which is switched off;"
        " remove services.registry.enabled, or share_environments"
    ]


@pytest.mark.parametrize("share", [True, False])
def test_login_that_may_pull_is_known_where_images_are_shared(
    folder: Path, tmp_path: Path, *, share: bool
) -> None:
    services = {"registry": {"enabled": True}}
    site = site_with(folder, ADA, EVE, share_environments=share, services=services)
    (tmp_path / "rendered").mkdir()
    rendered = render("team", tmp_path / "rendered")
    credentials = Credentials(site, rendered.store)
    logins = {login.what: (login.user, login.secret.reveal()) for login in credentials.logins()}
    known = (rendered.folder / "registry/secrets/htpasswd").read_text().split()
    assert [line.partition(":")[0] for line in known] == (["dap", "pull"] if share else ["dap"])
    kept = (rendered.folder / "registry/config/kept").read_text().split()
    assert [f"registry.dap.example.com/{image}" for image in kept] == [
        image.source for image in sharing.shared(site)
    ]
    pages = user_pages.files(site, credentials, service_of("proxy", user=10002))
    texts = {file.path.rpartition("/")[2]: file.content.decode() for file in pages}
    if not share:
        assert WHAT not in logins
        assert "docker login" not in texts["my_ada"]
        return
    user, password = logins[WHAT]
    assert user == "pull"
    assert password != credentials.secret(site.services["registry"], "password").reveal()
    for text in (texts["my_ada"], texts["my_eve"]):
        assert "docker login --username pull registry.dap.example.com<" in text
        assert all(one in text for one in (password, *(image.source for image in sharing.shared(site))))
    assert rotation.rotatable(site)["registry.pull_password"].restarts == ("registry",)
    # From others than the platform's own login, the proxy takes nothing that changes something.
    configuration = (rendered.folder / "nginx-proxy/config/nginx.conf").read_text()
    assert configuration.count('"^((GET|HEAD) .*|[A-Z]+ (dap))$"') == 1


def test_registry_is_asked_which_of_them_it_lacks(folder: Path, tmp_path: Path) -> None:
    site = site_with(folder, ADA, EVE, share_environments=True)
    base, *others = sharing.shared(site)
    there = f"HEAD /v2/dap/base/manifests/{base.source.rpartition(':')[2]} with a login"
    assert sharing.lacking(place_in(site, tmp_path)) == []
    assert sharing.lacking(place_in(site, tmp_path, answers={there: 200}, status=404)) == others
    # One that does not run yet has none.
    assert sharing.lacking(place_in(site, tmp_path, status=0)) == [base, *others]
    assert sharing.lacking(place_in(site_with(folder, ADA), tmp_path, status=0)) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, ""),
        (
            {"POST /v2/dap/verify/blobs/uploads/ with a login": 202},
            "https://registry.dap.example.com/v2/dap/verify/blobs/uploads/ answered the login that may"
            " only pull with 202, not 403",
        ),
        (
            {"HEAD {path} with a login": 404},
            "{manifest} answered the login that may only pull with 404, not 200",
        ),
    ],
)
def test_what_users_may_do_is_proven(folder: Path, tmp_path: Path, wrong: dict[str, int], told: str) -> None:
    site = site_with(folder, ADA, EVE, share_environments=True)
    image = sharing.shared(site)[0]
    path = httpx.URL(sharing.manifest_of(image)).path
    right = {"GET /v2/": 401, "POST /v2/dap/verify/blobs/uploads/ with a login": 403}
    answers = right | {asked.format(path=path): status for asked, status in wrong.items()}
    place = place_in(site, tmp_path, answers=answers)
    if told:
        with pytest.raises(CheckError) as caught:
            list(check_of_registry(place, site.services["registry"]))
        assert str(caught.value) == told.format(manifest=sharing.manifest_of(image))
        return
    proven = list(check_of_registry(place, site.services["registry"]))
    assert proven == ["closed to strangers", "login accepted", "2 images for users", "which they cannot push"]
