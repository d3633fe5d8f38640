"""GitLab's API as the program itself uses it: under the public name, as the platform's administrator."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dap.errors import DapError, RefusedError
from dap.gitlab.state import TOKEN
from dap.services.manifest import Service
from dap.site import GITLAB
from dap.verify import Place

if TYPE_CHECKING:
    import httpx

_PAGE = 100


def gitlab_of(place: Place) -> Service:
    """The service GitLab.

    Raises:
        RefusedError: it does not run here.
    """
    site = place.site
    if GITLAB in site.services:
        return site.services[GITLAB]
    name = site.inventory.name
    reason = site.left_out[GITLAB][1] if GITLAB in site.left_out else "there is no such service"
    raise RefusedError(f"GitLab does not run in inventory {name}: {reason}", f"dap -e {name} status")


class GitlabApi:
    """Calls of the API, with the platform's token; to be closed at the end.

    Raises:
        RefusedError: GitLab does not run here.
    """

    def __init__(self, place: Place) -> None:
        service = gitlab_of(place)
        self._inventory = place.site.inventory.name
        self.url = place.site.url(service.manifest.web[0])
        self._client = place.client()
        self._client.headers["PRIVATE-TOKEN"] = place.credentials.secret(service, TOKEN).reveal()

    def __enter__(self) -> GitlabApi:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def call(self, method: str, path: str, **more: Any) -> Any:
        """What it answers to a request; None where that is empty.

        Raises:
            DapError: it cannot be reached, or refuses.
        """
        answer = self._send(method, path, **more)
        return answer.json() if answer.content else None

    def text(self, path: str) -> str:
        """What it answers, where that is no JSON."""
        return self._send("GET", path).text

    def every(self, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The entries of a list, of all its pages."""
        page = "1"
        while page:
            answer = self._send("GET", path, params={**parameters, "per_page": _PAGE, "page": page})
            yield from answer.json()
            page = answer.headers.get("X-Next-Page", "")

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        import httpx

        address = f"{self.url}/api/v4{path}"
        status = f"dap -e {self._inventory} status"
        try:
            answer = self._client.request(method, address, **more)
        except httpx.HTTPError as error:
            raise DapError(f"{address} cannot be reached: {error}", status) from error
        if answer.is_error:
            said = " ".join(answer.text.split())[:300]
            raise DapError(f"{method} {address} answered {answer.status_code}: {said}", status)
        return answer
