"""Names that two owners would have on one server are refused before anything is made there."""

from __future__ import annotations

from typing import Any

from dap import collisions
from dap.site import Site
from tests.unit.platforms import service_of, site_of

DATA = service_of("postgres-data", provides="postgres", projects=True, tls={"names": "own"})
SERVICE = service_of("postgres-service", provides="postgres")
STORE = service_of("minio", provides="s3", projects=True)
PLATFORM_FILE = "inventories/team/group_vars/all/platform.yml"


def told(site: Site) -> list[str]:
    return [str(finding) for finding in collisions.findings(site)]


def shop(**keys: Any) -> Any:
    return service_of("shop", **keys)


def test_names_of_their_own_are_taken_by_nobody() -> None:
    own = shop(databases=[{"server": "postgres-service", "name": "demo"}], buckets=[{"name": "goods"}])
    assert told(site_of(DATA, SERVICE, STORE, own, projects=[{"name": "demo"}])) == []


def test_project_cannot_have_the_database_of_a_service_on_the_same_server() -> None:
    own = shop(databases=[{"server": "postgres-data", "name": "team_data"}])
    site = site_of(DATA, SERVICE, STORE, own, projects=[{"name": "demo"}, {"name": "team-data"}])
    assert told(site) == [
        f"{PLATFORM_FILE}: projects[1].name = team-data\n"
        "    would be the database and role team_data, which is that of the service shop\n"
        "    write a different name"
    ]


def test_project_cannot_have_the_bucket_of_a_service() -> None:
    site = site_of(DATA, STORE, shop(buckets=[{"name": "goods"}]), projects=[{"name": "goods"}])
    assert told(site) == [
        f"{PLATFORM_FILE}: projects[0].name = goods\n"
        "    would be the bucket goods, which is that of the service shop\n"
        "    write a different name"
    ]


def test_services_cannot_share_a_bucket_by_accident() -> None:
    site = site_of(STORE, shop(buckets=[{"name": "goods"}]), service_of("till", buckets=[{"name": "goods"}]))
    assert told(site) == [
        "services/till/service.yml: buckets[0].name = goods\n"
        "    would be the bucket goods, which is that of the service shop\n"
        "    write a different name"
    ]


def test_one_server_in_the_place_of_two_is_one() -> None:
    """The same name on both is no conflict until both are the same machine."""
    server = {"url": "postgresql://db.example.com", "user": "keeper"}
    own = shop(databases=[{"server": "postgres-service", "name": "demo"}])
    settings = {"postgres-data": {"external": server}, "postgres-service": {"external": server}}
    projects = [{"name": "demo"}, {"name": "keeper"}]
    separate = site_of(DATA, SERVICE, STORE, own, projects=projects)
    assert told(separate) == []
    both = site_of(STORE, own, projects=projects, services=settings)
    external = {"postgres-data": DATA, "postgres-service": SERVICE}
    assert told(Site(both.inventory, both.services, {}, external)) == [
        f"{PLATFORM_FILE}: projects[0].name = demo\n"
        "    would be the database and role demo, which is that of the service shop\n"
        "    write a different name",
        f"{PLATFORM_FILE}: projects[1].name = keeper\n"
        "    would be the database and role keeper, which is that of the server's administrator\n"
        "    write a different name",
    ]
