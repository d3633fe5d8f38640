"""The container's commands: the server, and what is run beside it.

serve                 the server; started as root, it gives that up
first-start           the first administrator
runner                what ``gitlab-rails runner -`` does
keys TYPE KEY         what sshd asks before it lets a key in
shell key-NUMBER      what a key may do
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from .double import Double
from .site import Site

DATA = Path("/var/opt/gitlab")
PID_FILES = Path("/run")
SHELL = "/opt/gitlab/bin/double-shell"


def become(name: str) -> None:
    """Give up root's rights."""
    if os.geteuid():
        return
    user = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = user.pw_dir


def prepare() -> Site:
    """As root: the folder that the double keeps everything in, and what is known of the site."""
    site = Site.configured(DATA)
    git = pwd.getpwnam("git")
    site.write()
    os.chown(site.state, git.pw_uid, git.pw_gid)
    # The registry has a user of its own and reads its certificate there.
    site.state.chmod(0o711)
    return site


def start_registry(site: Site) -> None:
    """Start Debian's registry as its own user."""
    from .registry import configuration

    file = site.state / "registry.yml"
    file.write_text(configuration(site), encoding="utf-8")
    user = pwd.getpwnam("registry")
    process = subprocess.Popen(
        [shutil.which("docker-registry") or "docker-registry", "serve", str(file)],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "HOME": "/tmp", "OTEL_TRACES_EXPORTER": "none"},  # noqa: S108
    )
    (PID_FILES / "docker-registry.pid").write_text(str(process.pid))


def serve() -> int:
    import uvicorn

    from .application import Application
    from .cable import Cable
    from .registry_tokens import make_key

    site = prepare()
    make_key(site.state)
    git = pwd.getpwnam("git")
    os.chown(site.state / "registry.key", git.pw_uid, git.pw_gid)
    start_registry(site)
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", site.listen_port))
    (PID_FILES / "gitlab-server.pid").write_text(str(os.getpid()))
    become("git")
    application = Application(Double(site))
    config = uvicorn.Config(
        application,
        ws=Cable,
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def first_start() -> int:
    from .rails import first_start as make_administrator

    settings = json.loads((DATA / "configuration.json").read_text(encoding="utf-8"))
    site = prepare()
    become("git")
    make_administrator(Double(site), settings["gitlab_rails"]["initial_root_password"])
    return 0


def runner() -> int:
    from .rails import run

    site = Site.read(DATA)
    script = sys.stdin.read()
    become("git")
    return run(Double(site), script)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["serve"]:
            return serve()
        case ["first-start"]:
            return first_start()
        case ["runner"]:
            return runner()
        case ["keys", kind, key]:
            from .git_ssh import authorized

            sys.stdout.write(authorized(Double(Site.read(DATA)), kind, key, SHELL))
            return 0
        case ["shell", name]:
            from .git_ssh import serve as serve_git

            return serve_git(Double(Site.read(DATA)), name, os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
