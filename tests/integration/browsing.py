"""A real browser, as a user of the platform has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page


@contextmanager
def visiting(browser: Browser, user: str, password: str, *, seconds: int) -> Iterator[Page]:
    """A page of a user with the platform's login, and how long it is waited for what is to be there."""
    context = browser.new_context(
        # Chromium reads its CAs from the user's NSS store, which tests leave alone; the chain itself is
        # checked by test_clients.
        ignore_https_errors=True,
        http_credentials={"username": user, "password": password},
        viewport={"width": 1280, "height": 900},
    )
    page = context.new_page()
    page.set_default_timeout(seconds * 1000)
    yield page
    context.close()
