"""The double itself: its parts and what they share."""

from __future__ import annotations

import asyncio
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .records import Setting
from .repositories import Repositories
from .site import Site
from .stages import Stages
from .store import Store

if TYPE_CHECKING:
    from .contract import Contract

CONTRACT = Path(__file__).resolve().parents[1] / "contract"
STANDARD: dict[str, Any] = {
    "admin_mode": False,
    "default_branch_name": None,
    "default_project_visibility": "private",
    "default_group_visibility": "private",
    "gravatar_enabled": True,
    "minimum_password_length": 8,
    "password_authentication_enabled_for_git": True,
    "password_authentication_enabled_for_web": True,
    "require_admin_approval_after_user_signup": True,
    "shared_runners_enabled": True,
    "signup_enabled": True,
    "max_personal_access_token_lifetime": None,
    "restricted_visibility_levels": [],
    "import_sources": [],
    "auto_devops_enabled": False,
    "usage_ping_enabled": False,
    "version_check_enabled": True,
    "user_default_external": False,
    "can_create_group": True,
    "default_projects_limit": 100000,
    "session_expire_delay": 10080,
    "max_artifacts_size": 100,
    "ci_max_includes": 150,
}
"""GitLab's defaults; every other setting is there without a value."""


PATIENCE_S = 3600.0
"""So long a job stays that nothing is heard of, as in GitLab's `Ci::StuckBuilds::DropRunningService`."""


class News:
    """Says when something happened that a waiting runner may want to know."""

    def __init__(self) -> None:
        self.number = 0
        self._waiting: set[asyncio.Event] = set()

    def tell(self) -> None:
        self.number += 1
        for event in self._waiting:
            event.set()

    async def wait(self, seconds: float) -> None:
        """Until something happens, at most so long."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(event)


class Double:
    """Everything that a request may need."""

    def __init__(self, site: Site, contract: Path = CONTRACT, stages: Stages | None = None) -> None:
        self.site = site
        self.store = Store(site.database)
        self._descriptions = contract
        self.repositories = Repositories(site.repositories)
        self.stages = stages or Stages()
        self.news = News()
        self.received = 0
        """Bytes of bodies that came in for Git and for uploads."""
        self.sign_ups = 0
        self.patience_s = PATIENCE_S

    @cached_property
    def contract(self) -> Contract:
        # Takes a second to load, which the commands beside the server do not have.
        from .contract import Contract

        return Contract(self._descriptions, self.store)

    def settings(self) -> dict[str, Any]:
        kept = self.store.first(Setting)
        return STANDARD | (kept.values if kept else {})

    def change_settings(self, changes: dict[str, Any]) -> None:
        kept = self.store.first(Setting) or self.store.add(Setting())
        kept.values = kept.values | changes
        self.store.save(kept)

    def artifact_file(self, number: int) -> Path:
        folder = self.site.state / "artifacts"
        folder.mkdir(exist_ok=True)
        return folder / str(number)

    def trace_file(self, job: int) -> Path:
        folder = self.site.state / "traces"
        folder.mkdir(exist_ok=True)
        return folder / f"{job}.log"
