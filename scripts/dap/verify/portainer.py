"""Check of Portainer as its administrator uses it, through the proxy."""

from __future__ import annotations

from collections.abc import Iterator

from dap.services.manifest import Service
from dap.verify import Place, check, expect

_UP = 1


@check
def portainer(place: Place, service: Service) -> Iterator[str]:
    """The administrator can log in and sees every host; strangers find no setup to take over."""
    url = place.site.url(service.manifest.web[0])
    password = place.credentials.secret(service, "admin_password").reveal()
    with place.client() as client:
        setup = client.post(url + "/api/users/admin/init", json={"username": "admin", "password": "x" * 12})
        expect(setup.status_code == 403, f"the first setup answered a stranger with {setup.status_code}")
        login = client.post(url + "/api/auth", json={"username": "admin", "password": password})
        expect(login.status_code == 200, f"the login of admin answered {login.status_code}")
        yield "logged in"
        token = {"Authorization": f"Bearer {login.json()['jwt']}"}
        answer = client.get(url + "/api/endpoints", headers=token)
        expect(answer.status_code == 200, f"the list of environments answered {answer.status_code}")
    environments = answer.json()
    expect(environments, "there is no environment")
    down = [entry["Name"] for entry in environments if entry["Status"] != _UP]
    expect(not down, f"not reachable: {', '.join(down)}")
    yield f"{len(environments)} environments"
