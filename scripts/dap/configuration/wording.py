"""Every sentence that tells an operator what is wrong in a configuration file, and what to write instead.

A reason continues the value it is about ("… is not a port number"); a suggestion is an instruction, and
``{example}`` in it stands for the key's own example, which only the reader of the file knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

Location = tuple[str | int, ...]

EXAMPLE = "{example}"

_PLAIN_KEY = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Wording:
    """Why something is refused, and what to do about it."""

    reason: str
    suggestion: str

    def with_example(self, example: str) -> Wording:
        """The same with the key's example filled in."""
        return Wording(self.reason, self.suggestion.replace(EXAMPLE, example))


@dataclass(frozen=True)
class Fault:
    """A refusal and its place in the file; ``value`` replaces what is written there, where that says more."""

    location: Location
    wording: Wording
    value: str | None = None


def first_causes(faults: Iterable[Fault]) -> list[Fault]:
    """The first fault of each place, so that one cause has one finding; and all of the whole file."""
    kept: dict[object, Fault] = {}
    for fault in faults:
        kept.setdefault(fault.location or fault, fault)
    return list(kept.values())


def dotted(location: Location) -> str:
    """A location as people write it: ``projects[1].name``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not _PLAIN_KEY.fullmatch(part):
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
        else:
            text += f".{part}" if text else part
    return text


def closest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The candidate that was most probably meant, or none."""
    # Sorted, so that equally good candidates give the same answer in every run.
    by_folded = {candidate.casefold().replace("_", "-"): candidate for candidate in sorted(candidates)}
    found = get_close_matches(word.casefold().replace("_", "-"), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def listed(words: Iterable[str], conjunction: str = "and") -> str:
    """Words as a list in a sentence: ``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} {conjunction} {last}" if most else last


def one_of(word: str, candidates: Iterable[str]) -> str:
    """The suggestion for a word that is none of the candidates."""
    candidates = sorted(candidates)
    guess = closest(word, candidates)
    if guess:
        return f"did you mean {guess}?"
    return f"write one of: {', '.join(candidates)}" if candidates else "remove it"


# --- keys and their kinds of value -----------------------------------------------------------------------


def unknown_key(section: str, suggestion: str) -> Wording:
    return Wording(f"is not a key of {section or 'this file'}", suggestion)


def missing(example: str) -> Wording:
    return Wording("is required", f"write {example}")


def hidden(text: Wording) -> Wording:
    """The same without advice that might repeat a value that is not shown."""
    return Wording(text.reason, f"write a value such as {EXAMPLE}")


def no_value(*, removable: bool) -> Wording:
    suggestion = f"write a value such as {EXAMPLE}"
    return Wording("has no value", suggestion + (", or remove the key" if removable else ""))


def not_a_mapping() -> Wording:
    return Wording("is not a mapping of keys to values", f"write a mapping such as {EXAMPLE}")


def not_a_list() -> Wording:
    return Wording("is not a list", f"write a list such as {EXAMPLE}")


def not_text(quoted: str | None) -> Wording:
    return Wording(
        "is not text", f'put it in quotes: "{quoted}"' if quoted else f"write text such as {EXAMPLE}"
    )


def not_one_line(longest: int) -> Wording:
    return Wording(
        f"is not one line of at most {longest} characters", f"write a short text such as {EXAMPLE}"
    )


def not_a_number(noun: str, low: float, high: float, unquoted: str | None) -> Wording:
    suggestion = f"write {unquoted} without quotes" if unquoted else f"write a number such as {EXAMPLE}"
    return Wording(f"is not {noun} ({low:g} to {high:g})", suggestion)


def not_true_or_false(unquoted: str | None) -> Wording:
    return Wording(
        "is not true or false", f"write {unquoted} without quotes" if unquoted else "write true or false"
    )


def not_true_false_or_auto(unquoted: str | None) -> Wording:
    suggestion = f"write {unquoted} without quotes" if unquoted else "write true, false or auto"
    return Wording("is neither true nor false nor auto", suggestion)


def not_shaped(reason: str) -> Wording:
    return Wording(reason, f"write a value such as {EXAMPLE}")


def not_a_url(schemes: Iterable[str]) -> Wording:
    starts = listed((f"{scheme}://" for scheme in schemes), "or")
    return Wording(f"is not an address that begins with {starts}", f"write a value such as {EXAMPLE}")


def login_in_url() -> Wording:
    return Wording(
        "has a login in it, which every user of the host could read",
        "remove it; where a proxy wants one, put a proxy of your own without a login before it",
    )


def not_a_choice(word: str, choices: Iterable[str]) -> Wording:
    choices = sorted(choices)
    guess = closest(word, choices)
    suggestion = f"did you mean {guess}?" if guess else f"write {listed(choices, 'or')}"
    return Wording(f"is not one of: {', '.join(choices)}", suggestion)


# --- single values ---------------------------------------------------------------------------------------


def not_a_name(rule: str, corrected: str | None) -> Wording:
    return Wording(f"is not a name of {rule}", f"write {corrected or f'a name such as {EXAMPLE}'}")


def reserved(by: str) -> Wording:
    return Wording(f"is reserved for {by}", f"write another name, such as {EXAMPLE}")


def not_a_domain(what: str, corrected: str | None) -> Wording:
    return Wording(what, f"write {corrected or EXAMPLE}")


def not_an_address() -> Wording:
    return Wording(
        "is not an IP address",
        "write 0.0.0.0 for all of the service host's addresses, one of them, or 127.0.0.1 for itself only",
    )


def not_a_path(what: str, corrected: str | None = None) -> Wording:
    return Wording(what, f"write {corrected}" if corrected else f"write a path such as {EXAMPLE}")


def not_an_email(what: str) -> Wording:
    return Wording(what, f"write an address such as {EXAMPLE}")


def not_memory(least: str, corrected: str | None) -> Wording:
    suggestion = f"write {corrected}" if corrected else "write a number with m or g, such as 512m or 2g"
    return Wording(f"is not an amount of memory (at least {least})", suggestion)


def not_disk_space(least: str, corrected: str | None) -> Wording:
    suggestion = f"write {corrected}" if corrected else "write a number with m, g or t, such as 500m or 50g"
    return Wording(f"is not an amount of disk space (at least {least})", suggestion)


def not_a_duration(least: str, corrected: str | None) -> Wording:
    suggestion = f"write {corrected}" if corrected else "write a number with m or h, such as 30m or 8h"
    return Wording(f"is not a length of time (at least {least})", suggestion)


def not_a_time_zone(guess: str | None) -> Wording:
    suggestion = f"did you mean {guess}?" if guess else "write a name such as UTC or Europe/Berlin"
    return Wording("is not a time zone of the IANA database", suggestion)


# --- values that do not go together ----------------------------------------------------------------------


def same_port(other: str, *, default: bool) -> Wording:
    return Wording(
        f"is also the {'default of' if default else 'value of'} {other}", "write a port that no other key has"
    )


def same_folder(other: str) -> Wording:
    return Wording(f"is also the folder of {other}", f"write a folder of its own, such as {EXAMPLE}")


def folder_inside(other: str, path: str) -> Wording:
    return Wording(f"lies inside {other} ({path})", f"write a folder outside it, such as {EXAMPLE}")


def folder_around(other: str, path: str) -> Wording:
    return Wording(f"contains {other} ({path})", f"write a folder beside it, such as {EXAMPLE}")


def needed_with_files() -> Wording:
    return Wording("is required when tls.mode is files", f"write the path of a PEM file, such as {EXAMPLE}")


def unused_with_private_ca() -> Wording:
    return Wording("has no effect when tls.mode is private-ca", "write mode: files, or remove this key")


def same_name(other: str) -> Wording:
    return Wording(f"is also the name of {other}", "write a different name")


def alike_name(other: str) -> Wording:
    return Wording(
        f"is the name of {other}, as dots, hyphens and underscores count alike", "write a different name"
    )


def unknown_member(suggestion: str) -> Wording:
    return Wording("is not the name of a user", suggestion)


def user_without_key(location: str) -> Wording:
    advice = f"write a public key to {location}.ssh_keys, or {location}.ssh_keys_from_gitlab: true"
    return Wording("has no SSH key, and there is no other way in", advice)


def no_account_for_keys(location: str) -> Wording:
    return Wording(f"takes keys from an account that {location}: false takes away", "write false")


def same_number(other: str) -> Wording:
    return Wording(f"is also {other}", "write a different number, or remove it")


def not_gpus(most: int) -> Wording:
    return Wording(
        f"is neither a number of GPUs (1 to {most}) nor a list of devices",
        "write a number such as 1, or a list such as [0]",
    )


def not_a_gpu(name: str) -> Wording:
    return Wording(
        f"has {name or 'something'}, which is no device",
        "write indexes, UUIDs or CDI names, such as [0], [GPU-8f2c] or [nvidia.com/gpu=0]",
    )


def jobs_on_same_gpus() -> Wording:
    return Wording(
        "would give the runner's GPUs to several jobs at once", "write 1, or gpus_shared: true beside it"
    )


def unknown_service(suggestion: str) -> Wording:
    return Wording("is not a service of the platform", suggestion)


# --- files -----------------------------------------------------------------------------------------------


def no_such_inventory(suggestion: str, name: str) -> Wording:
    new = name if re.fullmatch(r"[a-z][a-z0-9-]*", name) else "NAME"
    existing = "" if suggestion == "remove it" else f"{suggestion} or "
    make = f"dap init {new} --domain dap.example.com --service-host localhost"
    return Wording("is not an inventory", f"{existing}make it with: {make}")


def no_such_file(suggestion: str) -> Wording:
    return Wording("does not exist", suggestion)


def referenced_file_missing(path: str, *, folder: bool) -> Wording:
    if folder:
        return Wording("is a folder", f"write the path of a file such as {EXAMPLE}")
    return Wording("does not exist", f"put the file at {path}, or write the path of one that exists")


def referenced_content() -> Wording:
    return Wording("is what belongs into a file, not a file's path", f"write a path such as {EXAMPLE}")


def unreadable(problem: str) -> Wording:
    return Wording(f"cannot be read ({problem})", "make it a text file that you can read")


def no_certificate() -> Wording:
    return Wording(
        "holds no certificate in PEM form", "write the path of a file with -----BEGIN CERTIFICATE----- in it"
    )


def holds_private_key() -> Wording:
    return Wording(
        "holds a private key, and it goes to every host", "write the path of a file with certificates only"
    )


def empty_file(shortest: str) -> Wording:
    return Wording("is empty", f"write at least {shortest}")


def file_not_a_mapping(shortest: str) -> Wording:
    return Wording("is not a mapping of keys to values", f"write keys with values, such as {shortest}")


def syntax(line: int, column: int, problem: str, suggestion: str) -> Wording:
    return Wording(f"is not valid YAML: line {line}, column {column}: {problem}", suggestion)


def duplicate_key(lines: Sequence[int]) -> Wording:
    times = "twice" if len(lines) == 2 else f"{len(lines)} times"
    places = sorted(set(lines))
    noun = "line" if len(places) == 1 else "lines"
    return Wording(f"is written {times}, on {noun} {listed(map(str, places))}", "keep one of them")


def odd_key(line: int) -> Wording:
    return Wording(f"has a key that is not plain text on line {line}", "write a word before the colon")


def unknown_tag(tag: str) -> Wording:
    return Wording(f"has {tag}, which means nothing here", "write the plain value without the tag")


def contains_itself() -> Wording:
    return Wording("contains itself", "write its content without the alias")


def too_deep(most: int) -> Wording:
    return Wording(
        f"is nested deeper than {most} levels", "write it with fewer brackets or dashes in each other"
    )


def too_many_values(most: int) -> Wording:
    return Wording(
        f"stands for more than {most} values, as its aliases name each other",
        "write the values without the aliases",
    )


def surprising_scalar(meaning: str, quoted: str | None) -> Wording:
    return Wording(
        f"is read as {meaning} by YAML", f'put it in quotes: "{quoted}"' if quoted else f"write {meaning}"
    )


# --- hosts -----------------------------------------------------------------------------------------------


def other_inventory_format(kind: str, shortest: str) -> Wording:
    return Wording(f"is {kind}, and only plain YAML inventories are read", f"write it as {shortest}")


def unknown_group(suggestion: str) -> Wording:
    return Wording("is not a group of the platform", suggestion)


def no_service_host(shortest: str) -> Wording:
    return Wording("has no group service_host", f"write at least {shortest}")


def group_without_host(group: str) -> Wording:
    return Wording(
        "has no host", f"write one below {group}.hosts, such as localhost: {{ansible_connection: local}}"
    )


def several_service_hosts(count: int) -> Wording:
    return Wording(
        f"has {count} hosts, and the services run on exactly one",
        "keep one here and move the others to runner_hosts",
    )


def host_in_no_group() -> Wording:
    return Wording("is in no group", "move it to service_host or runner_hosts, below all.children")


def not_a_host_name(suggestion: str) -> Wording:
    return Wording("is not a host name or IP address", suggestion)
