"""Requests that no browser sends: other names, paths that lead elsewhere, and requests within requests."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator

import pytest

from tests.integration.platform import DeployedPlatform, docker
from tests.integration.raw import Answer, ask, get

EVIL = "evil.example.com"
SERVICES = ("", "mlflow", "minio", "s3", "pgadmin")


def host(platform: DeployedPlatform, service: str = "") -> str:
    """A name of the platform, as a browser writes it into a request."""
    return platform.url(service).removeprefix("https://")


def is_refused(answer: Answer) -> bool:
    """Whether it is the proxy's own, for no service at all."""
    if answer.statuses == [404]:
        return b"This name is not part of the platform" in answer.raw
    return len(answer.statuses) == 1 and answer.statuses[0] in (400, 414)


# --- names ------------------------------------------------------------------------------------------------

FOREIGN = {
    "unknown": "Host: nobody.{domain}",
    "another's": "Host: evil.example.com",
    "address": "Host: 127.0.0.1",
    "IPv6 address": "Host: [::1]:443",
    "longer at the end": "Host: mlflow.{domain}.evil.example.com",
    "longer at the front": "Host: evil-mlflow.{domain}",
    "empty": "Host:",
    "missing": "X-Nothing: here",
    "two of them": "Host: mlflow.{domain}\r\nHost: {domain}",
    "two alike": "Host: mlflow.{domain}\r\nHost: mlflow.{domain}",
    "two in one": "Host: mlflow.{domain}, {domain}",
    "folded": "Host: evil.example.com\r\n mlflow.{domain}",
    "space before the colon": "Host : mlflow.{domain}",
    "with a path": "Host: mlflow.{domain}/../{domain}",
    "with a login": "Host: evil.example.com@mlflow.{domain}",
    "with a null byte": "Host: mlflow.{domain}\0evil.example.com",
    "with a line feed": "Host: mlflow.{domain}%0d%0aX-Evil: 1",
    "upwards": "Host: ../../etc/passwd",
    "very long": "Host: " + "a" * 60_000 + ".{domain}",
}


@pytest.mark.parametrize("port", ["http", "https"])
@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_name_is_refused_and_not_repeated(platform: DeployedPlatform, case: str, port: str) -> None:
    line = FOREIGN[case].format(domain=platform.domain)
    payload = f"GET /x?y=1 HTTP/1.1\r\n{line}\r\nConnection: close\r\n\r\n".encode("latin-1")
    answer = ask(platform, payload, port=port, name=f"mlflow.{platform.domain}")
    assert is_refused(answer), answer.head
    assert b"evil" not in answer.raw.lower() and answer.header("location") == []


@pytest.mark.parametrize("written", ["{}", "{}:{port}", "{}:1", "{}.", "{}.:{port}", "{upper}", "{}:"])
def test_name_is_the_same_however_it_is_written(platform: DeployedPlatform, written: str) -> None:
    name = f"mlflow.{platform.domain}"
    asked = written.format(name, upper=name.upper(), port=platform.ports["https"])
    assert ask(platform, get(asked, "/")).header("www-authenticate") == [
        f'Basic realm="{platform.name}: MLflow"'
    ]
    moved = ask(platform, get(asked, "/a?b=c"), port="http")
    assert (moved.statuses, moved.header("location")) == ([308], [f"{platform.url('mlflow')}/a?b=c"])


def test_address_in_the_first_line_counts_and_the_header_beside_it_does_not(
    platform: DeployedPlatform,
) -> None:
    realm = [f'Basic realm="{platform.name}: MLflow"']
    answer = ask(platform, get(host(platform), f"http://{host(platform, 'mlflow')}/"))
    assert (answer.statuses, answer.header("www-authenticate")) == ([401], realm)
    assert ask(platform, get(host(platform, "mlflow"), f"http://{host(platform)}/")).statuses == [200]
    assert is_refused(ask(platform, get(host(platform, "mlflow"), f"http://{EVIL}/")))


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_repeats_a_name_that_it_was_not_asked_by(platform: DeployedPlatform, service: str) -> None:
    address = f"http://{host(platform, service)}"
    lies = [f"{name}: {EVIL}" for name in ("X-Forwarded-Host", "X-Host", "X-Forwarded-Server", "X-Real-IP")]
    lies += [f"Forwarded: host={EVIL};proto=http", "X-Forwarded-Proto: gopher", "X-Forwarded-Prefix: /evil"]
    lies += [f"X-Original-URL: https://{EVIL}/", "X-Rewrite-URL: /evil", "X-Forwarded-Port: 666"]
    login = "Authorization: Basic " + basic(platform)
    for path in ("/", "/login", "/browser/", "/api/v1/login", "/demo", "/minio/", "/no-such-page"):
        for given, line in ((EVIL, f"{address}{path}"), (host(platform, service), path)):
            answer = ask(platform, get(given, line, *lies, login), name=host(platform, service).split(":")[0])
            assert answer.statuses and answer.statuses[0] < 500, (path, answer.head)
            assert b"evil" not in answer.raw and b"gopher" not in answer.raw, (path, answer.raw[:2000])


def basic(platform: DeployedPlatform) -> str:
    """The platform's login, as browsers send it."""
    return base64.b64encode(":".join(platform.login("Platform login")).encode()).decode()


# --- paths ------------------------------------------------------------------------------------------------

UP = [
    "../",
    "%2e%2e/",
    "..%2f",
    "%2e%2e%2f",
    "..%5c",
    "..\\",
    "%252e%252e%252f",
    "..%c0%af",
    "..;/",
    ".%00./",
]
UP += ["%uff0e%uff0e/", "..%ef%bc%8f", "....//", "..%00/"]
FILES = ["etc/passwd", "run/secrets/pgpass", "run/live/htpasswd", "proc/self/environ"]
STARTS = {
    "": ["/my/", "/too-many-requests.html/"],
    "mlflow": [
        *("/static-files/", "/get-artifact?path=", "/ajax-api/2.0/mlflow/get-artifact?run_uuid=1&path="),
        *("/api/2.0/mlflow-artifacts/artifacts/", "/api/2.0/mlflow-artifacts/artifacts?path="),
    ],
    "minio": ["/static/"],
    "s3": ["/demo/"],
    "pgadmin": ["/static/"],
}
LEAKED = [b"root:x:0", b"$2b$", b"$2y$", b"PATH=", b"root:*:", b"BEGIN PRIVATE", b"aws_secret_access_key"]


@pytest.mark.parametrize("service", SERVICES)
def test_no_path_leads_out_of_what_is_served(platform: DeployedPlatform, service: str) -> None:
    login = "Authorization: Basic " + basic(platform)
    for start in ("/", *STARTS[service]):
        for number, up in enumerate(UP):
            path = start + up * 8 + FILES[number % len(FILES)]
            answer = ask(platform, get(host(platform, service), path, login))
            # MLflow and MinIO say 500 to some names that cannot be.
            assert len(answer.statuses) == 1 and answer.statuses[0] <= 500, (path, answer.head)
            assert not [leak for leak in LEAKED if leak in answer.raw], path


HIDDEN = {
    "s3": [
        "/minio/admin/v3/info",
        "/minio/v2/metrics/cluster",
        "/minio/metrics/v3",
        "/minio/prometheus/metrics",
    ],
    "mlflow": ["/metrics"],
}
DISGUISES = ["{0}", "/{0}", "/.{0}", "/x/..{0}", "/x/%2e%2e{0}", "/%2e{0}", "{0}/", "{0}?a=b", "{0}%3fa=b"]
DISGUISES += ["{encoded}", "{0};a=b", "{0}/.", "{0}%2f", "//x/..{0}", "{0}/../.{0}"]


@pytest.mark.parametrize("service", HIDDEN)
def test_what_is_for_the_platforms_own_network_stays_hidden(platform: DeployedPlatform, service: str) -> None:
    login = "Authorization: Basic " + basic(platform)
    for path in HIDDEN[service]:
        encoded = path[0] + "".join(f"%{ord(letter):02x}" for letter in path[1:])
        for disguise in DISGUISES:
            written = disguise.format(path, encoded=encoded)
            answer = ask(platform, get(host(platform, service), written, login))
            assert answer.statuses == [403], (written, answer.head)


@pytest.mark.parametrize(
    "path",
    ["/", "//", "/%2f", "/./", "/x/../", "/health", "/too-many-requests.html", "/unavailable.html?", "/;x=y"],
)
def test_nothing_of_a_service_behind_the_login_is_seen_without_it(
    platform: DeployedPlatform, path: str
) -> None:
    for line in (
        "",
        "Authorization:",
        "Authorization: Basic",
        "Authorization: Basic Og==",
        "Authorization: x",
    ):
        answer = ask(platform, get(host(platform, "mlflow"), path, *[line] * bool(line)))
        assert answer.statuses in ([401], [429], [404]), (path, line, answer.head)
        assert b"mlflow" not in answer.raw.partition(b"\r\n\r\n")[2].lower()


# --- requests within requests -----------------------------------------------------------------------------

# After the head, what one reader takes for a body and another for the next request.
CHUNKED = "0\r\n\r\nGET /{mark} HTTP/1.1\r\nHost: {host}\r\n\r\n"
SMUGGLED = {
    "a length and chunks": ("Content-Length: 6\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks and a length": ("Transfer-Encoding: chunked\r\nContent-Length: 4", CHUNKED),
    "two lengths": (
        "Content-Length: 0\r\nContent-Length: 44",
        "GET /{mark} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    ),
    "lengths in a list": ("Content-Length: 0, 44", "GET /{mark} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "length with a sign": ("Content-Length: +44", "GET /{mark} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "negative length": ("Content-Length: -1", "GET /{mark} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "length in hexadecimal": ("Content-Length: 0x2c", "GET /{mark} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "huge length": ("Content-Length: 99999999999999999999", "GET /{mark} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "chunks twice": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks and a fake": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", CHUNKED),
    "fake and chunks": ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks within identity": ("Transfer-Encoding: chunked, identity", CHUNKED),
    "another coding": ("Transfer-Encoding: xchunked", CHUNKED),
    "vertical tab": ("Transfer-Encoding: \x0bchunked", CHUNKED),
    "quoted": ('Transfer-Encoding: "chunked"', CHUNKED),
    "space before the colon": ("Transfer-Encoding : chunked", CHUNKED),
    "tab before the colon": ("Transfer-Encoding\t: chunked", CHUNKED),
    "folded": ("Transfer-Encoding:\r\n chunked", CHUNKED),
    "after a carriage return": ("X: y\rTransfer-Encoding: chunked", CHUNKED),
    "after a null byte": ("X: y\0Transfer-Encoding: chunked", CHUNKED),
    "size of a chunk too large": ("Transfer-Encoding: chunked", "FFFFFFFFFFFFFFFFF\r\n" + CHUNKED),
    "size of a chunk with a sign": ("Transfer-Encoding: chunked", "-1\r\n" + CHUNKED),
    "size of a chunk as in C": ("Transfer-Encoding: chunked", "0x0\r\n" + CHUNKED),
    "chunk longer than said": ("Transfer-Encoding: chunked", "1\r\nabc\r\n" + CHUNKED),
    "very long header": ("X: " + "a" * 70_000, ""),
    "very many headers": ("\r\n".join(f"X-{number}: {'a' * 60}" for number in range(1000)), ""),
}


@pytest.fixture(scope="module")
def mark(platform: DeployedPlatform) -> Iterator[str]:
    """How the paths begin that are asked for within requests; in the end the proxy has taken none for one."""
    made = f"smuggled-{secrets.token_hex(6)}"
    yield made
    taken = [line for line in docker("logs", f"{platform.name}-nginx-proxy").splitlines() if made in line]
    assert taken == []


def answers_others(platform: DeployedPlatform) -> None:
    """Whether somebody else's request gets its own answer."""
    answer = ask(platform, get(host(platform), "/healthz"))
    assert answer.statuses == [200], answer.head
    assert answer.raw.endswith(b"ok\n")


@pytest.mark.parametrize("service", ["", "mlflow", "minio"])
@pytest.mark.parametrize("case", SMUGGLED)
def test_request_that_can_be_read_in_two_ways_ends_its_connection(
    platform: DeployedPlatform, mark: str, service: str, case: str
) -> None:
    headers, body = SMUGGLED[case]
    head = (
        f"POST /x HTTP/1.1\r\nHost: {host(platform, service)}\r\nAuthorization: Basic {basic(platform)}\r\n"
    )
    within = body.format(mark=f"{mark}-{service}-{case.split()[0]}", host=host(platform, service))
    answer = ask(platform, f"{head}{headers}\r\n\r\n{within}".encode("latin-1"))
    assert len(answer.statuses) == 1 and answer.statuses[0] in (400, 413, 501), answer.head
    answers_others(platform)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "GET / HTTP/2.0",
            "GET / HTTP/1.1 HTTP/1.1",
            "GET  /a b HTTP/1.1",
            "GET / HTTP/9.9",
            "G\0T / HTTP/1.1",
        ),
        *(
            "GET http:///etc/passwd HTTP/1.1",
            "GET /\0 HTTP/1.1",
            "GET / HTTPS/1.1",
            "CONNECT {host} HTTP/1.1",
        ),
        *("GET /" + "a" * 70_000 + " HTTP/1.1", "PRI * HTTP/2.0", "TRACE / HTTP/1.1"),
    ],
)
def test_first_line_that_is_none_is_refused(platform: DeployedPlatform, line: str) -> None:
    name = host(platform, "mlflow")
    payload = f"{line.format(host=name)}\r\nHost: {name}\r\nX-Secret: mirrored\r\nConnection: close\r\n\r\n"
    answer = ask(platform, payload.encode("latin-1"))
    assert answer.statuses in ([400], [405], [414], [505]), answer.head
    assert b"mirrored" not in answer.raw
    answers_others(platform)


def test_request_of_before_http_1_gets_the_page_for_no_name(platform: DeployedPlatform) -> None:
    answer = ask(platform, b"GET /\r\n")
    assert answer.statuses == [] and b"This name is not part of the platform" in answer.raw
    answers_others(platform)


def test_request_with_bare_line_feeds_or_extended_chunks_is_one_request(
    platform: DeployedPlatform, mark: str
) -> None:
    """Which is what standards allow: everything behind the proxy reads them as it has."""
    name = host(platform)
    feeds = (
        f"GET /healthz HTTP/1.1\nHost: {name}\nConnection: close\n\nGET /{mark} HTTP/1.1\nHost: {name}\n\n"
    )
    assert ask(platform, feeds.encode()).statuses == [200]
    head = (
        f"POST /healthz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = f'5;a=b;c="{mark}"\r\nhello\r\n0;x\r\n\r\nGET /{mark} HTTP/1.1\r\nHost: {name}\r\n\r\n'
    extended = ask(platform, (head + chunks).encode())
    assert len(extended.statuses) == 1 and extended.statuses[0] in (404, 405, 501)
    answers_others(platform)


@pytest.mark.parametrize("service", ["minio", "pgadmin", "mlflow"])
@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.2", "tcp", "websocket, h2c"])
def test_no_other_protocol_is_switched_to(platform: DeployedPlatform, service: str, protocol: str) -> None:
    lines = [
        "Connection: Upgrade, HTTP2-Settings",
        f"Upgrade: {protocol}",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    ]
    payload = get(host(platform, service), "/", *lines, f"Authorization: Basic {basic(platform)}")
    answer = ask(platform, payload)
    assert answer.statuses and answer.statuses[0] not in (101, 426) and answer.statuses[0] < 500
    assert answer.header("upgrade") == []
