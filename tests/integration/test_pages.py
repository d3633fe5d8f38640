"""The pages in a real browser, through the proxy, as a user sees them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.browsing import visiting
from tests.integration.platform import ROOT, DeployedPlatform

SCREENSHOTS = ROOT / ".cache" / "screenshots"
SECONDS = 1000


@pytest.fixture
def page(browser: Browser, platform: DeployedPlatform) -> Iterator[Page]:
    """A page of a user who has the platform's login; any error on the page's console fails the test."""
    with visiting(browser, *platform.login("Platform login"), seconds=30) as page:
        yield page


def keep(page: Page, name: str) -> None:
    """Keep a picture for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def test_portal_lists_services_as_healthy(page: Page, platform: DeployedPlatform) -> None:
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(platform.url())
    expect(page.get_by_role("heading", name="MLflow").first).to_be_visible()
    expect(page.get_by_text("All services healthy").first).to_be_visible()
    keep(page, "portal")
    page.emulate_media(color_scheme="dark")
    keep(page, "portal-dark")
    assert errors == []


def test_portal_names_this_sites_addresses(page: Page, platform: DeployedPlatform) -> None:
    page.goto(platform.url())
    text = page.content()
    for address in (platform.url("mlflow"), platform.url("s3"), f"postgres-data.{platform.domain}"):
        assert address in text


def test_mlflow_shows_its_experiments(page: Page, platform: DeployedPlatform) -> None:
    page.goto(platform.url("mlflow") + "/#/experiments")
    expect(page.get_by_role("link", name="Default")).to_be_visible(timeout=30 * SECONDS)
    keep(page, "mlflow")


def test_minio_console_lets_a_project_in(page: Page, platform: DeployedPlatform) -> None:
    user, password = platform.login("Project demo: bucket")
    page.goto(platform.url("minio"))
    page.locator("#accessKey").fill(user)
    page.locator("#secretKey").fill(password)
    page.locator("#do-login, button[type=submit]").first.click()
    expect(page.get_by_text("demo", exact=True).first).to_be_visible()
    keep(page, "minio-console")


def test_pgadmin_opens_both_servers_without_a_database_password(
    page: Page, platform: DeployedPlatform
) -> None:
    user, password = platform.login("pgAdmin")
    page.goto(platform.url("pgadmin"))
    page.locator("input[name=email]").fill(user)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Login").click()
    page.get_by_text("Servers", exact=True).first.dblclick(timeout=60 * SECONDS)
    for opened, server in enumerate(("postgres-data", "postgres-service")):
        entry = page.get_by_text(server, exact=True).first
        expect(entry).to_be_visible()
        entry.dblclick()
        expect(page.get_by_text("Databases", exact=False).nth(opened)).to_be_visible(timeout=30 * SECONDS)
    keep(page, "pgadmin")


def test_unknown_name_gets_a_page_that_says_so(page: Page, platform: DeployedPlatform) -> None:
    answer = page.goto(platform.url("nobody"))
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_text("not part of").first).to_be_visible()
    keep(page, "unknown-host")
