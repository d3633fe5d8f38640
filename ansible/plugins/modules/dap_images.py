#!/usr/bin/python
"""Fetch and build the platform's images that a host does not have yet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_bootstrap import make_base, mirrors_mark
from ansible.module_utils.dap_build import (
    CA_BUNDLE,
    MIRRORS_LABEL,
    BuildError,
    Image,
    Outcome,
    build_all,
    build_argv,
    excerpt,
    kept_in_history,
    normal_tag,
    remove_old,
    run_logged,
    run_patiently,
    said_every_second,
    secret_parts,
)
from ansible.module_utils.dap_docker import (
    DockerError,
    NoEngineError,
    Progress,
    Run,
    elapsed,
    run_docker,
)
from ansible.module_utils.dap_pull import (
    LISTED,
    PulledImage,
    digest_of,
    fetch,
    how_far,
    parse_listed,
    rows_of,
)

DOCUMENTATION = """
module: dap_images
short_description: Fetch and build the images that a host does not have yet
author: The authors of the data analysis platform
options:
  state:
    type: str
    default: query
    choices: [query, load, pull, build]
    description:
      - C(query) tells what is missing and changes nothing.
      - C(load) takes the images that a bundle has from an archive, and removes old ones.
      - C(pull) fetches the missing images that come from registries, and the missing bases, and tells which
        bases have to be made here.
      - C(build) makes those bases, builds the missing images, and removes old ones.
  root: {type: path, required: true, description: "The platform's folder; logs go into its folder log."}
  images: {type: list, elements: dict, default: [], description: "The images that have to be there."}
  base_images: {type: list, elements: dict, default: [], description: Bases by Debian release.}
  pulled: {type: list, elements: dict, default: [], description: "The images that come from registries."}
  contexts: {type: path, required: true, description: "The folder with the build contexts as tar files."}
  archive: {type: path, default: "", description: "For C(load): an archive as C(docker load) reads it."}
  archived: {type: list, elements: str, default: [], description: "The images that it holds."}
  parallel_builds: {type: int, default: 2, description: "How many images are built at a time."}
  build_environment: {type: dict, default: {}, description: Arguments of the builds.}
  keep: {type: int, default: 2, description: "How many tags of each image stay on the host."}
  build_timeout: {type: int, default: 3600, description: "Seconds that one image may take."}
"""

RETURN = """
missing: {type: list, returned: always, description: "Names of the images that are not there."}
missing_pulled: {type: list, returned: always, description: "Images from registries that are not there."}
digests: {type: dict, returned: "query, pull", description: "Digest of each image from a registry."}
missing_contexts: {type: list, returned: query, description: Files that their builds need.}
missing_bases: {type: list, returned: query, description: Tags of the bases that they lack.}
contexts_left: {type: bool, returned: query, description: "Whether the folder of the contexts is there."}
bootstrap: {type: list, returned: pull, description: "Tags of the bases that have to be made from packages."}
built: {type: list, returned: build, description: "Name and seconds of each image that was built."}
removed_tags: {type: list, returned: "build, load", description: "Old tags that were removed."}
"""

RETRY_PAUSES = (5, 20)
PULL_TIMEOUT = 300
# What no build has used for two weeks.
CACHE_AGE = "336h"


class Builder:
    """The work on one host's images."""

    def __init__(self, given: Mapping[str, Any], run: Run) -> None:
        self.root = Path(given["root"])
        self.logs = self.root / "log"
        self.images = [Image.of(item) for item in given["images"]]
        self.suites = {item["tag"]: item["suite"] for item in given["base_images"]}
        self.sources = {item["tag"]: item["source"] or item["tag"] for item in given["base_images"]}
        self.pulled = [PulledImage.of(item) for item in given["pulled"]]
        self.contexts = Path(given["contexts"])
        self.parallel = given["parallel_builds"]
        # An empty variable is not an unset one to most tools, so it is left out.
        self.environment = {name: str(value) for name, value in given["build_environment"].items() if value}
        self.keep = given["keep"]
        self.timeout = given["build_timeout"]
        self.run = run
        self.progress = Progress(self.logs / "progress")
        self.mirrors = mirrors_mark(self.environment)
        self.listed = parse_listed(self._list("--digests", "--format", LISTED))
        self.present = {row.tag for row in self.listed}

    def _list(self, *arguments: str) -> str:
        listed = self.run(["image", "ls", *arguments])
        if listed.returncode:
            raise DockerError(f"the images cannot be listed: {listed.last_words}")
        return str(listed.stdout)

    def missing(self) -> list[Image]:
        """The images to build: those that are not there, and what they need whose mirrors are old."""
        absent = [image for image in self.images if normal_tag(image.tag) not in self.present]
        below: set[str] = set()
        # Each stands after what it is built upon.
        for image in reversed(self.images):
            if image in absent or image.name in below:
                below.update(image.depends_on)
        return [
            image for image in self.images if image in absent or (image.name in below and self._is_old(image))
        ]

    def _is_old(self, image: Image) -> bool:
        """Whether an image names other apt mirrors than the wanted ones; its tag is the same for all."""
        label = f'{{{{index .Config.Labels "{MIRRORS_LABEL}"}}}}'
        told = self.run(["image", "inspect", "--format", label, image.tag])
        mark = str(told.stdout).strip().replace("<no value>", "")
        return not told.returncode and mark != self.mirrors

    def missing_pulled(self) -> list[PulledImage]:
        """The images from registries that are not there."""
        return [image for image in self.pulled if not rows_of(image.reference, self.listed)]

    def digests(self) -> dict[str, str]:
        """Which image each of those from registries is, as far as the engine knows."""
        found = {image.reference: digest_of(image, self.listed) for image in self.pulled}
        return {reference: digest for reference, digest in found.items() if digest}

    def missing_bases(self) -> list[str]:
        """The tags of bases that the missing images need, and that are neither there nor built with them."""
        own = {image.tag for image in self.images}
        needed = {image.base for image in self.missing()} - own
        return sorted(tag for tag in needed if normal_tag(tag) not in self.present)

    def pull(self) -> tuple[list[str], list[str]]:
        """Fetch what registries have; returns the tags fetched, and those of bases to be made here.

        Raises:
            BuildError: one can be neither fetched nor made.
        """
        fetched, bootstrap = [], []
        with self.progress:
            for image in self.missing_pulled():
                self._fetch(image)
                fetched.append(image.reference)
            for tag in self.missing_bases():
                if problem := self._pull_base(tag):
                    if tag not in self.suites:
                        raise BuildError(f"{tag} is not there and cannot be fetched: {problem}")
                    bootstrap.append(tag)
                else:
                    fetched.append(tag)
        self.listed = parse_listed(self._list("--digests", "--format", LISTED))
        return fetched, bootstrap

    def _fetch(self, image: PulledImage) -> None:
        log, started = self.logs / f"pull-{image.name}.log", time.monotonic()
        with said_every_second(self.progress, lambda: how_far(image, log, started)):
            fetch(image, log, self.run, RETRY_PAUSES)

    def _pull_base(self, tag: str) -> str:
        """Fetch a base; returns what went wrong."""
        source = self.sources.get(tag, tag)
        self.progress.say(f"fetching {source}")
        pulled = self.run(["pull", "--quiet", source])
        if not pulled.returncode and source != tag:
            pulled = self.run(["tag", source, tag])
        return str(pulled.last_words) if pulled.returncode else ""

    def load(self, archive: str, wanted: Sequence[str]) -> None:
        """Take images from an archive.

        Raises:
            BuildError: one of them is not there afterwards.
        """
        log, started = self.logs / "load.log", time.monotonic()
        line = f"loading {len(wanted)} image{'s' if len(wanted) > 1 else ''} of the bundle"
        with self.progress, said_every_second(self.progress, lambda: f"{line}: {elapsed(started)}"):
            argv = ["docker", "load", "--quiet", "--input", archive]
            status = run_logged(argv, log, timeout=self.timeout)
        present = {row.tag for row in parse_listed(self._list("--digests", "--format", LISTED))}
        absent = [tag for tag in wanted if normal_tag(tag) not in present]
        if status or absent:
            raise BuildError(
                f"docker load ended with status {status}, without {', '.join(absent) or 'all of it'}\n"
                + excerpt(log)
            )

    def bootstrap(self, tag: str) -> None:
        """Make a base image from Debian packages."""
        make_base(tag, self.suites[tag], self.contexts, self.logs, self.environment, self.run)

    def build(self, image: Image) -> None:
        """Build one image; its tag appears only when the build has succeeded."""
        log = self.logs / f"build-{image.name}.log"
        bundle = CA_BUNDLE if CA_BUNDLE.exists() else None
        argv = build_argv(image, bundle, self.environment, self.mirrors)
        # The default builder puts the image into the engine, whatever the user has selected.
        switches = {
            "DOCKER_BUILDKIT": "1",
            "BUILDX_BUILDER": "default",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }
        status = run_patiently(
            argv,
            log,
            timeout=self.timeout,
            pauses=RETRY_PAUSES,
            environment={**self.environment, **switches},
            stdin=self.contexts / image.context,
        )
        if status:
            raise BuildError(f"docker build ended with status {status}\n{excerpt(log)}")

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
        wanted = [image for image in self.images if image.name in names]
        return [tag for image in wanted for tag in remove_old(image.name, image.tag, self.keep, self.run)]

    def prune_cache(self) -> None:
        """Remove what builds have not used for long; the cache grows to tens of gigabytes otherwise."""
        with contextlib.suppress(DockerError), self.progress:
            self.progress.say("removing what no build has used for two weeks")
            self.run(["builder", "prune", "--force", "--filter", f"until={CACHE_AGE}"])


def query(builder: Builder) -> dict[str, Any]:
    """Tell what is missing."""
    missing = builder.missing()
    digests = builder.digests()
    return {
        "changed": False,
        "missing": [image.name for image in missing],
        "missing_pulled": [image.reference for image in builder.missing_pulled()],
        "digests": digests,
        "dap": {"digests": digests},
        "missing_contexts": sorted({image.context for image in missing}),
        "missing_bases": builder.missing_bases(),
        "contexts_left": builder.contexts.exists(),
    }


def load(builder: Builder, given: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Take images from an archive.

    Raises:
        BuildError: they are not there afterwards.
    """
    absent = [tag for tag in given["archived"] if normal_tag(tag) not in builder.present]
    if not absent or check_mode:
        return loaded(absent)
    builder.load(given["archive"], absent)
    removed = builder.prune([image.name for image in builder.images if image.tag in absent])
    return {**loaded(absent), "removed_tags": removed}


def loaded(references: Sequence[str]) -> dict[str, Any]:
    """The result for images that come, or in check mode would come, from a bundle."""
    items = [f"image {reference} loaded from the bundle" for reference in references]
    return {"changed": bool(items), "changed_items": items}


def build(builder: Builder) -> dict[str, Any]:
    """Make what is missing; a key ``msg`` in the result says what failed."""
    started = time.monotonic()
    for tag in builder.missing_bases():
        line = f"making {tag} from Debian packages"
        began = time.monotonic()
        with builder.progress, said_every_second(builder.progress, lambda: f"{line}: {elapsed(began)}"):  # noqa: B023
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
    if built:
        builder.prune_cache()
    return {**result, "removed_tags": removed, "seconds": round(time.monotonic() - started)}


def make_module() -> AnsibleModule:
    """The module with its parameters."""
    text = {"type": "str", "required": True}
    image = {name: text for name in ("name", "tag", "context", "base")}
    depends_on = {"type": "list", "elements": "str", "default": []}
    return AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "query", "choices": ["query", "load", "pull", "build"]},
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
                "options": {"tag": text, "suite": text, "source": {"type": "str", "default": ""}},
            },
            "pulled": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    **{name: text for name in ("name", "reference", "source")},
                    "digest": {"type": "str", "default": ""},
                },
            },
            "contexts": {"type": "path", "required": True},
            "archive": {"type": "path", "default": ""},
            "archived": {"type": "list", "elements": "str", "default": []},
            "parallel_builds": {"type": "int", "default": 2},
            "build_environment": {"type": "dict", "default": {}},
            "keep": {"type": "int", "default": 2},
            "build_timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )


def run_state(module: AnsibleModule, builder: Builder, secrets: set[str]) -> dict[str, Any]:
    """Do what was asked for; a key ``msg`` in the result says what failed."""
    state = module.params["state"]
    if state == "load":
        return load(builder, module.params, check_mode=module.check_mode)
    if state == "query" or module.check_mode:
        found = query(builder)
        return {**found, **foreseen(state, found["missing"], found["missing_pulled"])}
    if state == "pull":
        fetched, bootstrap = builder.pull()
        digests = builder.digests()
        return {
            "changed": bool(fetched),
            "changed_items": [f"image {tag} pulled" for tag in fetched],
            "bootstrap": bootstrap,
            "digests": digests,
            "dap": {"digests": digests},
        }
    for name in kept_in_history(builder.environment):
        if builder.environment[name] in secrets:
            module.warn(f"{name} holds a password, which stays in the history of the images built with it")
    return build(builder)


def foreseen(state: str, missing: Sequence[str], missing_pulled: Sequence[str]) -> dict[str, Any]:
    """What check mode tells that would change."""
    items = {
        "pull": [f"image {reference} pulled" for reference in missing_pulled],
        "build": [f"image {name} built" for name in missing],
    }.get(state, [])
    return {"changed": bool(items), "changed_items": items}


def main() -> None:
    """Run as an Ansible module."""
    module = make_module()
    secrets = secret_parts(module.params["build_environment"])
    module.no_log_values.update(secrets)
    try:
        docker = {"BUILDX_BUILDER": "default"}
        builder = Builder(
            module.params, lambda argv: run_docker(argv, timeout=PULL_TIMEOUT, environment=docker)
        )
        result = run_state(module, builder, secrets)
    except (DockerError, BuildError, OSError) as error:
        if isinstance(error, NoEngineError) and module.check_mode:
            # Docker comes with this very deploy, so none of the images is there yet.
            names = [item["name"] for item in module.params["images"]]
            pulled = [item["reference"] for item in module.params["pulled"]]
            if module.params["state"] == "load":
                module.exit_json(**loaded(module.params["archived"]))
            result = foreseen(module.params["state"], names, pulled)
            nothing: dict[str, Any] = {"missing_contexts": [], "missing_bases": [], "contexts_left": False}
            module.exit_json(**result, missing=names, missing_pulled=pulled, **nothing)
        module.fail_json(msg=str(error))
        return
    if "msg" in result:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
