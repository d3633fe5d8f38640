"""One job as it will run: its keywords checked and brought into one form."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from . import expressions
from .reading import ConfigurationError

WHEN = ("on_success", "on_failure", "always", "manual", "never")
KNOWN = frozenset(
    {
        *("stage", "image", "services", "variables", "script", "before_script", "after_script"),
        *("needs", "dependencies", "rules", "artifacts", "cache", "tags", "when", "allow_failure"),
        *("retry", "timeout"),
    }
)
REAL = frozenset(
    {
        *("coverage", "dast_configuration", "environment", "except", "hooks", "id_tokens"),
        *("identity", "inherit", "inputs", "interruptible", "manual_confirmation", "only", "pages"),
        *("parallel", "publish", "release", "resource_group", "run", "secrets", "start_in"),
        "trigger",
    }
)
"""Keywords that GitLab has and the double has not."""
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
MONTH = 2592000
RULE = frozenset({"if", "when", "allow_failure", "variables", "exists", "changes"})
ARTIFACTS = frozenset(
    {"paths", "exclude", "name", "untracked", "when", "expire_in", "reports", "expose_as", "public"}
)
CACHE = frozenset({"key", "paths", "untracked", "policy", "when", "unprotect", "fallback_keys"})


@dataclass
class JobSpec:
    """All that a configuration says of a job."""

    name: str
    stage: str
    script: list[str]
    after_script: list[str] = field(default_factory=list)
    image: dict[str, Any] | None = None
    services: list[dict[str, Any]] = field(default_factory=list)
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name to ``{value, expand}``."""
    needs: list[dict[str, Any]] | None = None
    """``{job, artifacts, optional}``; None: all of the stages before."""
    dependencies: list[str] | None = None
    rules: list[dict[str, Any]] | None = None
    artifacts: dict[str, Any] | None = None
    cache: list[dict[str, Any]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    when: str = "on_success"
    allow_failure: bool = False
    allowed_exit_codes: list[int] = field(default_factory=list)
    retry: int = 0
    retry_when: list[str] = field(default_factory=lambda: ["always"])
    timeout: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def seconds(text: Any, where: str) -> int:
    """``1h 30m`` or ``2 weeks`` or ``3600``."""
    total, rest = 0.0, str(text).strip().lower().replace(" and ", " ")
    parts = DURATION.findall(rest)
    if not parts or DURATION.sub("", rest).strip():
        raise ConfigurationError(f"{where} should be a duration")
    for number, unit in parts:
        short = unit[:1]
        factor = MONTH if unit.startswith("mo") else UNITS.get(short)
        if factor is None:
            raise ConfigurationError(f"{where} should be a duration")
        total += float(number) * factor
    return int(total)


def job_spec(name: str, body: dict[str, Any], stages: list[str]) -> JobSpec:
    """A job out of what was written.

    Raises:
        ConfigurationError: for what GitLab refuses, and by name for what the double has not.
    """
    where = f"jobs:{name}"
    missing = sorted(set(body) & REAL)
    if missing:
        raise ConfigurationError(f"{where}: the double does not know {', '.join(missing)}")
    unknown = sorted(set(body) - KNOWN)
    if unknown:
        raise ConfigurationError(f"{where} config contains unknown keys: {', '.join(unknown)}")
    if "script" not in body:
        raise ConfigurationError(f"{where} config should implement the script:, run:, or trigger: keyword")
    stage = str(body.get("stage", "test"))
    if stage not in stages:
        raise ConfigurationError(
            f"{name} job: chosen stage {stage} does not exist; available stages are {', '.join(stages)}"
        )
    when, allowed = _when(where, body)
    codes = _exit_codes(where, body.get("allow_failure"))
    retry, retry_when = _retry(where, body.get("retry"))
    timeout = body.get("timeout")
    return JobSpec(
        name=name,
        stage=stage,
        script=lines(f"{where}:before_script", body.get("before_script", []))
        + lines(f"{where}:script", body["script"], needed=True),
        after_script=lines(f"{where}:after_script", body.get("after_script", [])),
        image=image(f"{where}:image", body.get("image")),
        services=[
            service(f"{where}:services", one) for one in _list(f"{where}:services", body.get("services"))
        ],
        variables=variables(f"{where}:variables", body.get("variables")),
        needs=_needs(where, body.get("needs")),
        dependencies=_names(f"{where}:dependencies", body["dependencies"])
        if "dependencies" in body
        else None,
        rules=rules(f"{where}:rules", body["rules"]) if "rules" in body else None,
        artifacts=_artifacts(f"{where}:artifacts", body.get("artifacts")),
        cache=_caches(f"{where}:cache", body.get("cache")),
        tags=_names(f"{where}:tags", body.get("tags") or []),
        when=when,
        allow_failure=allowed,
        allowed_exit_codes=codes,
        retry=retry,
        retry_when=retry_when,
        timeout=seconds(timeout, f"{where}:timeout config") if timeout is not None else None,
    )


def _when(where: str, body: dict[str, Any]) -> tuple[str, bool]:
    when = body.get("when", "on_success")
    if when == "delayed":
        raise ConfigurationError(f"{where}: the double does not know when: delayed")
    if when not in WHEN:
        raise ConfigurationError(f"{where} when should be one of: {', '.join(WHEN)}")
    allowed = body.get("allow_failure")
    # A job that waits for somebody does not hold up the others, unless rules decided on it.
    standard = when == "manual" and "rules" not in body
    return when, standard if allowed is None else allowed is True


def _exit_codes(where: str, allowed: Any) -> list[int]:
    if allowed is None or isinstance(allowed, bool):
        return []
    codes = (
        allowed.get("exit_codes") if isinstance(allowed, dict) and set(allowed) == {"exit_codes"} else None
    )
    codes = [codes] if isinstance(codes, int) else codes
    if not isinstance(codes, list) or not all(isinstance(one, int) for one in codes):
        raise ConfigurationError(f"{where}:allow_failure config should be a boolean or have exit_codes")
    return codes


def _retry(where: str, value: Any) -> tuple[int, list[str]]:
    entry = {"max": value} if not isinstance(value, dict) else value
    unknown = sorted(set(entry) - {"max", "when"})
    if unknown:
        raise ConfigurationError(f"{where}:retry: the double does not know {', '.join(unknown)}")
    most = entry.get("max") or 0
    if not isinstance(most, int) or isinstance(most, bool) or not 0 <= most <= 2:
        raise ConfigurationError(f"{where}:retry max must be 0, 1 or 2")
    when = entry.get("when", "always")
    return most, [when] if isinstance(when, str) else list(when)


def _list(where: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ConfigurationError(f"{where} config should be an array")
    return value


def _names(where: str, value: Any) -> list[str]:
    found = _list(where, value)
    if not all(isinstance(one, str) for one in found):
        raise ConfigurationError(f"{where} config should be an array of strings")
    return found


def lines(where: str, value: Any, needed: bool = False) -> list[str]:
    """A script: one line, or lines in lists of any depth."""
    found: list[str] = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, list):
            found += lines(where, one)
        elif isinstance(one, str):
            found.append(one)
        else:
            raise ConfigurationError(
                f"{where} config should be a string or a nested array of strings up to 10 levels deep"
            )
    if needed and not found:
        raise ConfigurationError(f"{where} config can't be blank")
    return found


def image(where: str, value: Any) -> dict[str, Any] | None:
    """``{name, entrypoint, pull_policy, docker}``."""
    if value is None:
        return None
    entry = {"name": value} if isinstance(value, str) else value
    return _container(where, entry, {"name", "entrypoint", "pull_policy", "docker"})


def service(where: str, value: Any) -> dict[str, Any]:
    entry = {"name": value} if isinstance(value, str) else value
    known = {"name", "alias", "entrypoint", "command", "pull_policy", "docker", "variables"}
    found = _container(where, entry, known)
    if "variables" in found:
        found["variables"] = variables(f"{where}:variables", found["variables"])
    return found


def _container(where: str, entry: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ConfigurationError(f"{where} config should be a hash or a string")
    unknown = sorted(set(entry) - known)
    if unknown:
        raise ConfigurationError(f"{where} config contains unknown keys: {', '.join(unknown)}")
    policy = entry.get("pull_policy")
    return entry | ({"pull_policy": [policy]} if isinstance(policy, str) else {})


def variables(where: str, value: Any) -> dict[str, dict[str, Any]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} config should be a hash of key value pairs")
    found = {}
    for name, one in value.items():
        entry = one if isinstance(one, dict) else {"value": one}
        unknown = sorted(set(entry) - {"value", "description", "expand", "options"})
        if unknown or isinstance(entry.get("value"), (dict, list)):
            raise ConfigurationError(f"{where} config should be a hash of key value pairs")
        found[str(name)] = {"value": text(entry.get("value", "")), "expand": entry.get("expand", True)}
    return found


def text(value: Any) -> str:
    """As the value was written in YAML."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _needs(where: str, value: Any) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    found = []
    for one in _list(f"{where}:needs", value):
        entry = {"job": one} if isinstance(one, str) else one
        unknown = sorted(set(entry) - {"job", "artifacts", "optional"})
        if unknown or "job" not in entry:
            raise ConfigurationError(
                f"{where}:needs: the double does not know {', '.join(unknown) or str(one)}"
            )
        found.append({"artifacts": True, "optional": False} | entry)
    return found


def rules(where: str, value: Any) -> list[dict[str, Any]]:
    """Checked, not decided."""
    found = []
    for number, rule in enumerate(_list(where, value)):
        place = f"{where}:rule"
        if isinstance(rule, list):
            found += rules(where, rule)
            continue
        if not isinstance(rule, dict):
            raise ConfigurationError(f"{place} config should be a hash")
        unknown = sorted(set(rule) - RULE)
        if unknown:
            raise ConfigurationError(
                f"{place}: the double does not know {', '.join(unknown)} (rule {number + 1})"
            )
        if rule.get("when", "on_success") not in WHEN:
            raise ConfigurationError(f"{place} when should be one of: {', '.join(WHEN)}")
        if "if" in rule:
            try:
                expressions.check(str(rule["if"]))
            except expressions.ExpressionError as error:
                raise ConfigurationError(f"{place} if {error}") from None
        changed = rule.get("changes")
        paths = changed.get("paths") if isinstance(changed, dict) and set(changed) == {"paths"} else changed
        entry = rule | {"variables": variables(f"{place}:variables", rule.get("variables"))}
        for key, one in {"changes": paths, "exists": rule.get("exists")}.items():
            if one is not None:
                entry[key] = _names(f"{place}:{key}", one)
        found.append(entry)
    return found


def _artifacts(where: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} config should be a hash")
    unknown = sorted(set(value) - ARTIFACTS)
    if unknown:
        raise ConfigurationError(f"{where} config contains unknown keys: {', '.join(unknown)}")
    if "dotenv" in (value.get("reports") or {}):
        raise ConfigurationError(f"{where}:reports: the double does not know dotenv")
    if value.get("when", "on_success") not in ("on_success", "on_failure", "always"):
        raise ConfigurationError(f"{where} when should be one of: on_success, on_failure, always")
    if "expire_in" in value and value["expire_in"] != "never":
        seconds(value["expire_in"], f"{where} expire in")
    paths = {key: _names(f"{where}:{key}", value[key]) for key in ("paths", "exclude") if key in value}
    return value | paths


def _caches(where: str, value: Any) -> list[dict[str, Any]]:
    found = []
    for entry in value if isinstance(value, list) else [value] if value else []:
        unknown = sorted(set(entry) - CACHE)
        if unknown:
            raise ConfigurationError(f"{where} config contains unknown keys: {', '.join(unknown)}")
        if isinstance(entry.get("key"), dict) and set(entry["key"]) - {"files", "prefix"}:
            raise ConfigurationError(f"{where}:key config contains unknown keys")
        if entry.get("policy", "pull-push") not in ("pull", "push", "pull-push"):
            raise ConfigurationError(f"{where}:policy should be one of: pull, push, pull-push")
        found.append(entry | {"paths": _names(f"{where}:paths", entry.get("paths") or [])})
    return found
