#!/usr/bin/python
"""Build the platform's images that a host does not have yet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_build import (
    CA_BUNDLE,
    NAME_LABEL,
    BuildError,
    Image,
    Outcome,
    bootstrap_argv,
    build_all,
    build_argv,
    host_mirrors,
    network_trouble,
    normal_tag,
    run_logged,
)
from ansible.module_utils.dap_docker import (
    DockerError,
    NoEngineError,
    Progress,
    Run,
    elapsed,
    run_docker,
    tail,
)
from ansible.module_utils.dap_host import parse_os_release
from ansible.module_utils.dap_probe import apt_sources, text_of

DOCUMENTATION = """
module: dap_images
short_description: Build the images that a host does not have yet
author: The authors of the data analysis platform
options:
  state:
    type: str
    default: query
    choices: [query, pull, build]
    description:
      - C(query) tells what is missing and changes nothing.
      - C(pull) fetches the missing bases and tells which of them have to be made here.
      - C(build) makes those bases, builds the missing images, and removes old ones.
  root: {type: path, required: true, description: "The platform's folder; logs go into its folder log."}
  images: {type: list, elements: dict, default: [], description: "The images that have to be there."}
  base_images: {type: list, elements: dict, default: [], description: Bases by Debian release.}
  contexts: {type: path, required: true, description: "The folder with the build contexts as tar files."}
  parallel_builds: {type: int, default: 2, description: "How many images are built at a time."}
  build_environment: {type: dict, default: {}, description: Arguments of the builds.}
  keep: {type: int, default: 2, description: "How many tags of each image stay on the host."}
  build_timeout: {type: int, default: 3600, description: "Seconds that one image may take."}
"""

RETURN = """
missing: {type: list, returned: always, description: "Names of the images that are not there."}
missing_contexts: {type: list, returned: query, description: Files that their builds need.}
missing_bases: {type: list, returned: query, description: Tags of the bases that they lack.}
contexts_left: {type: bool, returned: query, description: "Whether the folder of the contexts is there."}
bootstrap: {type: list, returned: pull, description: "Tags of the bases that have to be made from packages."}
built: {type: list, returned: build, description: "Name and seconds of each image that was built."}
removed_tags: {type: list, returned: build, description: "Old tags that were removed."}
"""

LINES_SHOWN = 25
RETRY_PAUSES = (5, 20)
PULL_TIMEOUT = 300
BOOTSTRAP_TIMEOUT = 1800


class Builder:
    """The work on one host's images."""

    def __init__(self, given: Mapping[str, Any], run: Run) -> None:
        self.root = Path(given["root"])
        self.logs = self.root / "log"
        self.images = [Image.of(item) for item in given["images"]]
        self.suites = {item["tag"]: item["suite"] for item in given["base_images"]}
        self.contexts = Path(given["contexts"])
        self.parallel = given["parallel_builds"]
        # An empty variable is not an unset one to most tools, so it is left out.
        self.environment = {name: str(value) for name, value in given["build_environment"].items() if value}
        self.keep = given["keep"]
        self.timeout = given["build_timeout"]
        self.run = run
        self.progress = Progress(self.logs / "progress")
        self.present = self._tags()

    def _tags(self, *selection: str) -> list[str]:
        """The tags on the host, newest first."""
        listed = self.run(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *selection])
        if listed.returncode:
            raise DockerError(f"the images cannot be listed: {listed.last_words}")
        return list(listed.stdout.split())

    def missing(self) -> list[Image]:
        """The images that are not there."""
        return [image for image in self.images if normal_tag(image.tag) not in self.present]

    def missing_bases(self) -> list[str]:
        """The tags of bases that the missing images need, and that are neither there nor built with them."""
        own = {image.tag for image in self.images}
        needed = {image.base for image in self.missing()} - own
        return sorted(tag for tag in needed if normal_tag(tag) not in self.present)

    def pull(self) -> tuple[list[str], list[str]]:
        """Fetch the missing bases; returns the tags fetched, and those that have to be made here.

        Raises:
            BuildError: one can be neither fetched nor made.
        """
        fetched, bootstrap = [], []
        for tag in self.missing_bases():
            with self.progress:
                self.progress.say(f"fetching {tag}")
                pulled = self.run(["pull", "--quiet", tag])
            if pulled.returncode == 0:
                fetched.append(tag)
            elif tag in self.suites:
                bootstrap.append(tag)
            else:
                raise BuildError(f"{tag} is not there and cannot be fetched: {pulled.last_words}")
        return fetched, bootstrap

    def bootstrap(self, tag: str) -> None:
        """Make a base image from Debian packages.

        The file system goes to a file first: a pipe into ``docker import`` would tag whatever came through
        before a failure.
        """
        suite = self.suites[tag]
        archive, sources = self.contexts / f"{suite}.tar", self.contexts / f"{suite}.list"
        log = self.logs / f"bootstrap-{suite}.log"
        mirrors = host_mirrors(parse_os_release(text_of("/etc/os-release")), apt_sources())
        sources.write_text(mirrors.sources(suite), encoding="utf-8")
        archive.unlink(missing_ok=True)
        argv = bootstrap_argv(suite, archive, sources)
        status = run_logged(argv, log, timeout=BOOTSTRAP_TIMEOUT, environment=self.environment)
        if status:
            raise BuildError(f"mmdebstrap ended with status {status}\n{excerpt(log)}")
        change = ["--change", 'CMD ["bash"]', "--change", f"LABEL dap.base={suite}"]
        imported = self.run(["import", *change, str(archive), tag])
        archive.unlink()
        if imported.returncode:
            raise BuildError(f"docker import: {imported.last_words}")

    def build(self, image: Image) -> None:
        """Build one image; its tag appears only when the build has succeeded."""
        log = self.logs / f"build-{image.name}.log"
        argv = build_argv(image, CA_BUNDLE if CA_BUNDLE.exists() else None, self.environment)
        # The default builder puts the image into the engine, whatever the user has selected.
        switches = {
            "DOCKER_BUILDKIT": "1",
            "BUILDX_BUILDER": "default",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }
        for pause in (*RETRY_PAUSES, None):
            status = run_logged(
                argv,
                log,
                timeout=self.timeout,
                environment={**self.environment, **switches},
                stdin=self.contexts / image.context,
            )
            if not status:
                return
            if pause is None or not network_trouble("\n".join(tail(log, LINES_SHOWN))):
                raise BuildError(f"docker build ended with status {status}\n{excerpt(log)}")
            # What was built already is in the engine's cache, so another try costs little.
            time.sleep(pause)

    def build_missing(self) -> list[Outcome]:
        """Build all missing images, saying about once a second how far it is."""
        images = self.missing()

        def watch(running: Mapping[str, float], ended: int) -> None:
            names = ", ".join(f"{name} {elapsed(since)}" for name, since in running.items())
            self.progress.say(f"building images, {ended} of {len(images)} done: {names}")

        with self.progress:
            return list(build_all(images, self.build, self.parallel, watch))

    def prune(self, names: Sequence[str]) -> list[str]:
        """Remove old tags of the named images; the engine itself refuses those that a container uses."""
        removed = []
        for image in self.images:
            if image.name not in names:
                continue
            repository = normal_tag(image.tag).rpartition(":")[0]
            tags = self._tags("--filter", f"label={NAME_LABEL}={image.name}")
            old = [
                tag for tag in tags if tag != normal_tag(image.tag) and tag.rpartition(":")[0] == repository
            ]
            for tag in old[max(0, self.keep - 1) :]:
                if tag.endswith(":<none>"):
                    continue
                if self.run(["image", "rm", tag]).returncode == 0:
                    removed.append(tag)
        return removed


def excerpt(log: Path) -> str:
    """The end of a log and where the rest is."""
    return "\n".join([*(f"    {line}" for line in tail(log, LINES_SHOWN)), f"  log: {log}"])


def secret_parts(environment: Mapping[str, Any]) -> set[str]:
    """Values with a user or password in an address, and the passwords: nothing that Ansible may print."""
    secrets = set()
    for value in map(str, environment.values()):
        address = urlsplit(value if "://" in value else "")
        if address.username or address.password:
            secrets.add(value)
            secrets.update(part for part in (address.password,) if part)
    return secrets


def query(builder: Builder) -> dict[str, Any]:
    """Tell what is missing."""
    missing = builder.missing()
    return {
        "changed": False,
        "missing": [image.name for image in missing],
        "missing_contexts": sorted({image.context for image in missing}),
        "missing_bases": builder.missing_bases(),
        "contexts_left": builder.contexts.exists(),
    }


def build(builder: Builder) -> dict[str, Any]:
    """Make what is missing; a key ``msg`` in the result says what failed."""
    started = time.monotonic()
    for tag in builder.missing_bases():
        with builder.progress, said_every_second(builder.progress, f"making {tag} from Debian packages"):
            try:
                builder.bootstrap(tag)
            except (BuildError, KeyError) as error:
                return {"msg": f"the base image {tag} cannot be made: {error}", "built": []}
    missing = [image.name for image in builder.missing()]
    outcomes = builder.build_missing()
    built = [{"name": outcome.name, "seconds": outcome.seconds} for outcome in outcomes if not outcome.error]
    failed = [outcome for outcome in outcomes if outcome.error]
    result = {
        "changed": bool(built),
        "changed_items": [f"image {item['name']} built in {item['seconds']} s" for item in built],
        "missing": missing,
        "built": built,
        "removed_tags": [],
    }
    if failed:
        details = "\n".join(f"{outcome.name}: {outcome.error}" for outcome in failed)
        plural = "image" if len(failed) == 1 else "images"
        return {**result, "msg": f"{len(failed)} {plural} could not be built:\n{details}"}
    removed = builder.prune([item["name"] for item in built])
    return {**result, "removed_tags": removed, "seconds": round(time.monotonic() - started)}


@contextmanager
def said_every_second(progress: Progress, line: str) -> Iterator[None]:
    """Keep a progress line with the elapsed time up to date while the body runs."""
    started, ended = time.monotonic(), False

    def keep_saying() -> None:
        while not ended:
            progress.say(f"{line}: {elapsed(started)}")
            time.sleep(1)

    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(keep_saying)
        try:
            yield
        finally:
            ended = True


def make_module() -> AnsibleModule:
    """The module with its parameters."""
    text = {"type": "str", "required": True}
    image = {name: text for name in ("name", "tag", "context", "base")}
    depends_on = {"type": "list", "elements": "str", "default": []}
    return AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "query", "choices": ["query", "pull", "build"]},
            "root": {"type": "path", "required": True},
            "images": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**image, "depends_on": depends_on},
            },
            "base_images": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"tag": text, "suite": text},
            },
            "contexts": {"type": "path", "required": True},
            "parallel_builds": {"type": "int", "default": 2},
            "build_environment": {"type": "dict", "default": {}},
            "keep": {"type": "int", "default": 2},
            "build_timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )


def main() -> None:
    """Run as an Ansible module."""
    module = make_module()
    secrets = secret_parts(module.params["build_environment"])
    module.no_log_values.update(secrets)
    state = module.params["state"]
    try:
        builder = Builder(module.params, lambda argv: run_docker(argv, timeout=PULL_TIMEOUT))
        if state == "query" or module.check_mode:
            result = query(builder)
            result["changed"] = state == "build" and bool(result["missing"])
        elif state == "pull":
            fetched, bootstrap = builder.pull()
            result = {"changed": bool(fetched), "bootstrap": bootstrap}
        else:
            for name, value in builder.environment.items():
                if value in secrets:
                    module.warn(
                        f"{name} holds a password, which stays in the history of the images built with it"
                    )
            result = build(builder)
    except (DockerError, BuildError, OSError) as error:
        if isinstance(error, NoEngineError) and module.check_mode:
            # Docker comes with this very deploy, so none of the images is there yet.
            everything = [item["name"] for item in module.params["images"]]
            module.exit_json(
                changed=state == "build", missing=everything, missing_contexts=[], missing_bases=[]
            )
        module.fail_json(msg=str(error))
        return
    if "msg" in result:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
