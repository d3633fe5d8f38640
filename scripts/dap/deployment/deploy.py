"""The steps of a deploy: validate, preflight, generate, render, carry to the hosts, provision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dap import rotation
from dap.bundle.archive import Bundle
from dap.bundle.supply import find_lacking, supplies_of
from dap.configuration.inventory import Host, Inventory
from dap.credentials import Credentials
from dap.deployment import gpus, watched
from dap.deployment.host_roles import Given, with_work
from dap.deployment.outcome import Outcome, open_log
from dap.deployment.partial import goes_on_without
from dap.deployment.preflight import facts_of, find_oversized, judge, left_out, wanted
from dap.deployment.prepared import Prepared
from dap.deployment.progress import Progress
from dap.deployment.selection import TAGS, Selection, select
from dap.dev import deploying
from dap.errors import DapError, Problems, RefusedError
from dap.external import examine
from dap.files import make_private_folder, required, temporary_folder
from dap.gitlab import runners
from dap.gpus import promises
from dap.hosts import ansible as hosts
from dap.hosts import playbook_variables
from dap.hosts.facts import HostFacts
from dap.hosts.playbook_variables import address_of
from dap.hosts.reachability import silent_hosts
from dap.images import builds as images
from dap.images import digests
from dap.images.distribution import PASSWORD, Distribution
from dap.images.making import images_of, make_images, staged
from dap.images.sharing import lacking
from dap.layout import secrets_dir
from dap.plan.reading import foresee_new_servers, read, sealed_tokens, wanted_renewals
from dap.provisioning import desired_state
from dap.rendering.render import Renderer
from dap.secrets import Secret, SecretStore, ownership_conflict, store_lock
from dap.services import choices
from dap.site import Site
from dap.trust import tls
from dap.verify import Place, refuse_unknown_checks

# Of a deploy, what brings tokens that were just made to the runners.
_TAKE_TOKENS = ("stack", "services")


@dataclass(frozen=True)
class _Looked:
    """What preflight has found, by host.

    Attributes:
        given: what the hosts were compared with.
    """

    facts: Mapping[str, HostFacts]
    given: Mapping[str, Given]


@dataclass(frozen=True)
class _Asked:
    """What the provisioning jobs want of the program.

    Attributes:
        renew: keys of secrets for which services want other values.
        sealed: tokens of new runners, as `runners.open_sealed` reads them.
    """

    renew: list[str]
    sealed: list[str]


class Deployment:
    """A run of ``dap deploy`` (or ``check``) on one inventory."""

    def __init__(
        self, site: Site, progress: Progress, verb: str = "deploy", bundle: Bundle | None = None
    ) -> None:
        self.site = site
        self.bundle = bundle
        self.progress = progress
        self.inventory: Inventory = site.inventory
        self.secrets_folder = secrets_dir() / self.inventory.name
        self.outcome = Outcome()
        self.verb = verb

    def check(self) -> Outcome:
        """Everything up to and including preflight; changes nothing."""
        store = SecretStore.load(self.secrets_folder, self.inventory.name)
        self.outcome.log = open_log(self.inventory.name, self.verb)
        self.outcome.warnings += store.repairs
        with self._working_folder(check=True) as folder:
            self.outcome.warnings += tls.ensure(self.site, folder, store).warnings
        self._preflight(store)
        return self.outcome

    def run(
        self,
        *,
        check: bool = False,
        diff: bool = False,
        rotate: Sequence[rotation.Rotatable] = (),
        only: Sequence[str] = (),
    ) -> Outcome:
        """Deploy.

        Args:
            rotate: secrets that get new values.
            check: find out what would change, change nothing on the hosts.
            diff: write the differences of files into the log.
            only: services that are brought into state, and no other; all if empty.

        Raises:
            DapError: something failed; a later run finishes the work.
        """
        make_private_folder(self.secrets_folder)
        with store_lock(self.secrets_folder):
            store = SecretStore.load(self.secrets_folder, self.inventory.name)
            self.outcome.log = open_log(self.inventory.name, self.verb)
            self.outcome.warnings += store.repairs
            rotation.begin(self.site, store, rotate)
            looked = self._preflight(store, check=check)
            selection = select(self.site, only, looked.facts)
            self.outcome.only = selection.names
            asked = self._bring(store, looked, selection, check=check, diff=diff)
            if asked.renew and not check:
                # Which of its tokens were revoked or are about to end is known only when a service was asked.
                known = rotation.rotatable(self.site)
                rotation.begin(self.site, store, [known[key] for key in asked.renew])
                asked = self._bring(store, looked, selection, diff=diff, again=True)
            if asked.sealed and not check:
                self._keep_tokens(store, asked.sealed)
                self._bring(store, looked, selection, diff=diff, again=True, tags=_TAKE_TOKENS)
            if not selection:
                deploying.bring(self.site, store, self.outcome, self.progress, check=check)
        return self.outcome

    def _keep_tokens(self, store: SecretStore, sealed: Sequence[str]) -> None:
        """Save the tokens of new runners at once: GitLab shows them only here."""
        seal = Credentials(self.site, store).runner_seal()
        for text in sealed:
            tokens = runners.open_sealed(text, seal)
            for key, token in tokens.items():
                store.replace(key, token)
            # What was before is of no use to anybody.
            store.settle(tokens)
        store.save()

    def _bring(
        self,
        store: SecretStore,
        looked: _Looked,
        selection: Selection,
        *,
        check: bool = False,
        diff: bool = False,
        again: bool = False,
        tags: Sequence[str] = (),
    ) -> _Asked:
        """Prepare everything and carry it to the hosts.

        Args:
            again: the hosts themselves were just brought into state.
            tags: of what is to be done on the hosts; everything if empty.
        """
        with self._working_folder(check) as folder, self.progress.step("Secrets and certificates"):
            prepared = self._prepare(store, looked, folder, selection, check=check)
        if again:
            prepared = replace(prepared, work={host: [] for host in prepared.work}, supplies={})
        with staged(prepared.builds, self.outcome.log.parent) as staging:
            if not check:
                prepared.stage_bundle(staging)
            return self._apply(store, prepared, staging, check=check, diff=diff, tags=tags)

    def build_images(self, names: Sequence[str]) -> Outcome:
        """Build the images of services and environments where they are missing; without ``names`` all in use.

        Installs and starts Docker first, as a deploy does.

        Raises:
            RefusedError: one of the names is none whose image is built.
        """
        builds = images_of(self.site, every_environment=True).builds
        known = [build.name for build in builds]
        for name in names:
            if name not in known:
                raise RefusedError(f"{name!r} has no image to build", f"there are: {', '.join(known)}")
        usual = [build.name for build in images_of(self.site).builds]
        wanted_builds = images.with_bases(builds, names or usual)
        self.outcome.log = open_log(self.inventory.name, self.verb)
        run = make_images(self.site, wanted_builds, self.progress, log=self.outcome.log)
        self.outcome.changes = run.changed
        return self.outcome

    def destroy(self, *, with_data: bool) -> Outcome:
        """Remove containers and rendered files; with ``with_data`` also data and secrets."""
        with store_lock(self.secrets_folder):
            store = SecretStore.load(self.secrets_folder, self.inventory.name)
            self.outcome.log = open_log(self.inventory.name, self.verb)
            if with_data:
                # Data of another platform, or of one whose secrets are lost, is not removed.
                problems = Problems()
                with self.progress.step("Preflight"):
                    self._find_foreign_data(store, facts_of(self._look({})), problems)
                    problems.refuse()
            variables = playbook_variables.of_platform(self.site) | {
                "platform_id": store.platform_id,
                "destroy_data": with_data,
                "hosts": {host.name: {"names": [], "address": ""} for host in self.inventory.hosts},
                "ca_certificates": [],
                "registries": [],
            }
            with self.progress.step("Remove containers and files"):
                # First: they are in a network of the services.
                self.outcome.changes = deploying.remove_all(self.site, store)
                run = self.play(variables, playbook="destroy")
            self.outcome.changes += run.changed
            if with_data:
                # Last: as long as a host may still hold data, its passwords are kept.
                shutil.rmtree(self.secrets_folder)
                self.outcome.changes.append(("here", f"{self.secrets_folder} removed"))
        return self.outcome

    def _preflight(self, store: SecretStore, *, check: bool = True) -> _Looked:
        """Look at every host; refuses before anything is written.

        Services that may be left out and cannot run are out of ``site`` from here on.

        Args:
            check: nothing is changed on any host. Otherwise those with GPUs are prepared for handing them out
                where the operator wants that: what is there decides what is rendered.
        """
        trusted = tls.known_authorities(self.site, self.secrets_folder)
        every = images_of(self.site)
        distribution = Distribution(self.site, every)
        given = self._given(distribution, trusted)
        problems = Problems()
        with self.progress.step("Preflight"):
            run = self._look_at_all(given)
            if run.failures and not goes_on_without(run.failures, self.outcome, self.inventory, self.verb):
                # With hosts that could not be looked at, the rest would be guesses.
                judge(run, problems)
                problems.refuse()
            facts = facts_of(run)
            out = left_out(distribution, facts, problems, bundled=self.bundle is not None)
            with problems.gathered():
                self.site = self.site.without(out)
            self.outcome.warnings += judge(run, problems, ignored=out, absent=self.outcome.failed)
            find_oversized(self.site, facts, problems)
            waiting = gpus.promise(self, facts, problems)
            if self.bundle:
                find_lacking(self.bundle, Distribution(self.site, images_of(self.site)), facts, problems)
            self.outcome.warnings += examine(
                self.site, Credentials(self.site, store, generate=False), problems
            )
            self._find_foreign_data(store, facts, problems)
            with problems.gathered():
                refuse_unknown_checks(self.site.services.values())
            problems.refuse()
        if waiting:
            gpus.prepare(self, waiting, check=check)
        return _Looked(facts, given)

    def _look_at_all(self, given: Mapping[str, Given]) -> hosts.Run:
        """Look at every host; those that do not answer are among the failures."""
        silent = silent_hosts(self.inventory)
        if not silent:
            return self._look(given, keep_going=True)
        names = [host.name for host in self.inventory.hosts]
        answering = [name for name in names if name not in silent]
        run = self._look(given, keep_going=True, limit=answering) if answering else hosts.Run()
        run.failures = sorted([*silent.items(), *run.failures], key=lambda failure: names.index(failure[0]))
        return run

    @property
    def _hosts(self) -> list[Host]:
        """The hosts that this run works on."""
        return [host for host in self.inventory.hosts if host.name not in self.outcome.failed]

    def _given(self, distribution: Distribution, trusted: Sequence[bytes]) -> dict[str, Given]:
        """What the roles that bring a host itself into state are given, by host."""
        return {host.name: Given.of(self.site, host, trusted, distribution.of(host)) for host in self._hosts}

    def _look(self, given: Mapping[str, Given], **options: Any) -> hosts.Run:
        """Run the preflight; without ``given``, whose data a host holds is all that is to be known."""
        # Whose data a host holds is judged here, where the secrets are, and not by the host.
        platform, inventory = self.site.platform, self.inventory
        authorities = [required(inventory.resolve(path)).decode() for path in platform.trust.extra_cas]
        variables = playbook_variables.of_platform(self.site) | {
            "hosts": {
                host.name: wanted(self.site, host) | (given[host.name].as_variables() if given else {})
                for host in inventory.hosts
            },
            "ca_certificates": authorities,
        }
        if self.bundle:
            variables["bundled_images"] = [*self.bundle.images]
        return self.play(variables, playbook="preflight", **options)

    def _find_foreign_data(
        self, store: SecretStore, facts: Mapping[str, HostFacts], problems: Problems
    ) -> None:
        """Find hosts that hold data that these secrets do not belong to."""
        for host, found in facts.items():
            data = str(self.site.platform.paths.data)
            if conflict := ownership_conflict(store, host, data, found.marker, found.has_data):
                problems.add(conflict)

    def _prepare(
        self,
        store: SecretStore,
        looked: _Looked,
        folder: Path,
        selection: Selection,
        *,
        check: bool,
    ) -> Prepared:
        """Fill secrets, issue certificates, render. The store is saved before anything uses its values."""
        facts = {host.name: looked.facts[host.name] for host in self._hosts}
        credentials = Credentials(self.site, store)
        certificates = tls.ensure(self.site, folder, store)
        self.outcome.warnings += certificates.warnings
        distribution = Distribution(self.site, images_of(self.site), selection)
        # Rendering generates what services need; logins of people, which nothing renders, are generated here.
        list(credentials.logins())
        renderer = Renderer(self.site, credentials, distribution.every.references, certificates)
        trees = {
            host.name: renderer.tree(
                self.site.services_on(host).values(), facts[host.name], address_of(host, self.inventory), host
            )
            for host in self._hosts
        }
        state = rotation.jobs_state(self.site, credentials, certificates.trusted)
        if check or selection:
            state = state or json.dumps(desired_state(self.site, credentials, certificates.trusted))
        if selection:
            wanted_state = selection.narrow_state(json.loads(state), self.site, credentials)
            state = json.dumps(wanted_state)
            trees = {
                name: selection.narrow(
                    tree, self.site, facts[name].deployed, with_jobs=any(wanted_state.values())
                )
                for name, tree in trees.items()
            }
        now = self._given(distribution, certificates.trusted)
        work = {host: with_work(looked.given[host], now[host], found) for host, found in facts.items()}
        supplies = supplies_of(self.bundle, distribution, facts) if self.bundle else {}
        for host, supply in supplies.items():
            work[host] += ["bundle"] * bool(supply.release)
        handed_out = distribution.handed_out({host: found.missing_tags for host, found in facts.items()})
        if not selection:
            place = Place(self.site, credentials, tls.trusted_file(self.site, folder))
            handed_out = list(dict.fromkeys([*handed_out, *lacking(place)]))
        if handed_out:
            work[self.inventory.service_host.name].append("handing")
        return Prepared(
            self.site,
            distribution,
            trees,
            now,
            work,
            handed_out,
            credentials.secret(distribution.registry, PASSWORD) if distribution.registry else Secret(""),
            certificates,
            selection,
            state,
            self.bundle,
            supplies,
        )

    @contextmanager
    def _working_folder(self, check: bool) -> Iterator[Path]:
        """Where CA and certificates are kept; in check mode a copy, which is thrown away."""
        if not check:
            yield self.secrets_folder
            return
        with temporary_folder(self.outcome.log.parent) as folder:
            copy = folder / self.inventory.name
            shutil.copytree(self.secrets_folder, copy, ignore=shutil.ignore_patterns("logs", ".lock"))
            try:
                yield copy
            except DapError as error:
                # What is wrong is wrong with the originals.
                error.message = error.message.replace(str(copy), str(self.secrets_folder))
                error.next_step = error.next_step.replace(str(copy), str(self.secrets_folder))
                raise

    def _apply(
        self,
        store: SecretStore,
        prepared: Prepared,
        staging: Path,
        *,
        check: bool,
        diff: bool,
        tags: Sequence[str] = (),
    ) -> _Asked:
        if not check:
            # First the store, then the hosts: a password that is in use somewhere is never lost.
            store.save()
            auto = [name for name in self.site.left_out if self._may_be_left_out(name)]
            promises.remember(self.site)
            choices.remember(self.inventory.name, {name: self.site.left_out[name][1] for name in auto})
        variables = prepared.variables(store.platform_id, staging, check=check)
        tags = tags or (TAGS if prepared.selection else ())
        with self.progress.step("Hosts, images and services"):
            idle = prepared.idle_tags(variables)
            run = self.play(
                variables,
                keep_going=True,
                limit=[*prepared.trees] if self.outcome.failed else (),
                check=check,
                diff=diff,
                tags=tags,
                skip_tags=idle,
            )
            if run.failures and not goes_on_without(run.failures, self.outcome, self.inventory, self.verb):
                raise hosts.failure([*self.outcome.failed.items(), *run.failures], self.outcome.log)
        self.outcome.plan = self.outcome.plan.then(read(run, self.site, prepared.certificates))
        self.outcome.changes = [(change.host, change.what) for change in self.outcome.plan.changes]
        if check:
            foresee_new_servers(
                self.outcome.plan, run, self.site, prepared.trees, json.loads(prepared.jobs_state)
            )
        for (_, host), result in run.results.items():
            self.outcome.warnings += [f"{host}: {note}" for note in result.get("notes", [])]
            if not check:
                digests.remember(self.inventory.name, result.get("digests", {}))
        if not check and not prepared.selection and not self.outcome.failed:
            self.outcome.rotated += rotation.finish(self.site, store)
        return _Asked(wanted_renewals(run), sealed_tokens(run))

    def _may_be_left_out(self, name: str) -> bool:
        service, _ = self.site.left_out[name]
        return choices.choice(service, self.site.platform.services) == "auto"

    def play(self, variables: Mapping[str, Any], playbook: str = "deploy", **options: Any) -> hosts.Run:
        """Run a playbook, and show what it is waiting for."""
        return watched.play(
            playbook, self.inventory, variables, self.progress, log=self.outcome.log, **options
        )
