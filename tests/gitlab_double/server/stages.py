"""GitLab comes up in stages: its port refuses, then all is 502, then it is "ready" before its API works."""

from __future__ import annotations

import time

BOOTING, LOADING, READY = "booting", "loading", "ready"
READY_S, API_S = 1.0, 4.0
"""So long after the start ``/-/readiness`` says 503, and the API 502 although readiness is fine already."""


class Stages:
    """How far the start has come. Tests may say it themselves."""

    def __init__(self, forced: str = "") -> None:
        self._started = time.monotonic()
        self.forced = forced

    @property
    def now(self) -> str:
        age = time.monotonic() - self._started
        return self.forced or (BOOTING if age < READY_S else LOADING if age < API_S else READY)
