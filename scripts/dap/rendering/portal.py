"""What the portal page shows, derived from the manifests."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from dap import __version__
from dap.servers import public_address, servers
from dap.services.manifest import Service
from dap.site import Site

_LOGINS = {"login": "Platform login", "own": "Own login", "open": ""}


def portal_context(site: Site, ca_certificate: bytes) -> dict[str, Any]:
    """The part of every template's context that describes the platform to people; nothing in it is secret.

    Returns:
        ``platform``, ``services``, ``left_out``, ``projects``, ``connect``, ``probes``.
    """
    shown = [service for service in site.services.values() if service.manifest.provides != "jobs"]
    return {
        "platform": _platform(site, ca_certificate),
        # What people open comes first, then what programs connect to, then what just has to be there.
        "services": sorted(
            (_service(site, service) for service in shown if service.name != "portal"),
            key=lambda card: (not card["links"], not card["endpoints"]),
        ),
        "left_out": [
            {"name": service.manifest.title, "reason": reason} for service, reason in site.left_out.values()
        ],
        "projects": [
            {
                "name": project.name,
                "summary": project.summary,
                "database": project.database,
                "role": project.database,
                "bucket": project.bucket,
            }
            for project in site.projects
        ],
        "connect": connect(site),
        "probes": [_probe(service) for service in shown if service.manifest.probe],
    }


def _platform(site: Site, ca_certificate: bytes) -> dict[str, Any]:
    return {
        "name": site.platform.platform_name,
        "domain": site.platform.domain,
        "url": f"https://{site.platform.domain}{site.port_suffix}",
        "version": __version__,
        "private_ca": site.platform.tls.mode == "private-ca",
        "ca_fingerprint": colon_fingerprint(ca_certificate) if ca_certificate else "",
    }


def _service(site: Site, service: Service) -> dict[str, Any]:
    manifest = service.manifest
    links = [{"label": web.label or manifest.title, "url": site.url(web)} for web in manifest.web if web.page]
    endpoints = [
        {"label": web.label or manifest.title, "value": site.url(web)} for web in manifest.web if not web.page
    ]
    if manifest.provides != "proxy":
        endpoints += [
            {
                "label": "Host and port",
                "value": f"{site.own_host(service)}:{site.published_port(service, port)}",
            }
            for port in manifest.ports
        ]
    return {
        "name": service.name,
        "title": manifest.title,
        "summary": manifest.summary,
        "group": manifest.group,
        "links": links,
        "endpoints": endpoints,
        "probe": manifest.probe is not None,
        "login": _LOGINS[manifest.web[0].access] if links else "",
    }


def connect(site: Site) -> dict[str, Any]:
    """Where clients connect to; None for what is not part of this deployment."""
    mlflow = site.services.get("mlflow")
    gitlab = site.services.get("gitlab")
    stores = [server for server in servers(site, "s3") if server.service.manifest.projects]
    databases = [server for server in servers(site, "postgres") if server.service.manifest.projects]
    host, _, port = public_address(site, databases[0]).rpartition(":") if databases else (None, "", None)
    return {
        "mlflow_url": site.url(mlflow.manifest.web[0]) if mlflow else None,
        "s3_url": public_address(site, stores[0]) if stores else None,
        "postgres_host": host,
        "postgres_port": port and int(port),
        "git_url": site.url(gitlab.manifest.web[0]) if gitlab else None,
        "dev_containers": _users_page(site) if site.dev_containers else None,
    }


def _users_page(site: Site) -> str | None:
    """Where users find their development containers; None where no page shows them."""
    found = [f"{site.url(vhost.web)}{vhost.web.users_path}" for vhost in site.vhosts if vhost.web.users_path]
    return found[0] if found else None


def _probe(service: Service) -> dict[str, Any]:
    probe = service.manifest.probe
    assert probe is not None  # noqa: S101  the caller filters
    if probe.type == "http":
        url = f"http://{service.name}:{probe.port}{probe.path}"
        return {"service": service.name, "type": "http", "url": url}
    return {"service": service.name, "type": probe.type, "host": service.name, "port": probe.port}


def colon_fingerprint(certificate: bytes) -> str:
    """SHA-256 fingerprint of a PEM certificate as browsers show it: ``AB:CD:…``."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex(":").upper()
