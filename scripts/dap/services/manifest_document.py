"""One manifest file: its keys against a model of them, and what is wrong in the words of all our messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from dap import layout
from dap.configuration import wording
from dap.configuration.values import REFUSED
from dap.configuration.wording import Fault, Location, Wording, dotted
from dap.configuration.yamlfile import HIDDEN, YamlFile
from dap.errors import Finding
from dap.services.manifest_schema import ManifestSection, field_at, section_at

Model = TypeVar("Model", bound=ManifestSection)


def checked(document: YamlFile, model: type[Model], shortest: str) -> tuple[Model | None, list[Fault]]:
    """What a manifest says, if nothing is wrong in it, and otherwise the faults.

    Args:
        shortest: the shortest content that such a file may have.
    """
    faults = list(document.faults)
    if not document.parsed:
        return None, faults
    if document.data is None:
        return None, [*faults, Fault((), wording.empty_file(shortest))]
    if not isinstance(document.data, dict):
        return None, [*faults, Fault((), wording.file_not_a_mapping(shortest))]
    manifest: Model | None = None
    try:
        manifest = model.model_validate(document.data)
    except ValidationError as error:
        faults += _refusals(error, document, model)
    wrong = {fault.location for fault in faults}
    faults += [
        Fault(location, wording.surprising_scalar(meaning, None))
        for location, meaning in document.surprising.items()
        if not any(location[:length] in wrong for length in range(len(location) + 1))
    ]
    return (None if faults else manifest), wording.first_causes(faults)


def finding(file: Path, fault: Fault, document: YamlFile, model: type[ManifestSection]) -> Finding:
    """A fault of a manifest as it is told."""
    value = fault.value
    if value is None:
        value = document.written.get(fault.location, "") if fault.location else ""
    text = fault.wording.with_example(_example(fault.location, model))
    return Finding(layout.shown(file), dotted(fault.location), value, text.reason, text.suggestion)


def _refusals(error: ValidationError, document: YamlFile, model: type[ManifestSection]) -> Iterator[Fault]:
    entries = error.errors(include_url=False)
    meant: set[Location] = set()
    for entry in entries:
        if entry["type"] == "extra_forbidden":
            *above, key = entry["loc"]
            section = section_at(tuple(above), model)
            known = section.model_fields if section else {}
            guess = wording.closest(str(key), known)
            meant |= {(*above, guess)} if guess else set()
            text = wording.unknown_key(dotted(tuple(above)), wording.one_of(str(key), known))
            yield Fault(entry["loc"], text)
    for entry in entries:
        location: Location = entry["loc"]
        if entry["type"] == "missing" and location not in meant:
            # The required key is there, only misspelt, where it is the one that was meant.
            yield Fault(location, wording.missing(f"{location[-1]}: {wording.EXAMPLE}"))
        elif entry["type"] not in ("missing", "extra_forbidden"):
            text = _wording_of(entry, document)
            # So pydantic says that it is the key of a mapping which is wrong, and not its value.
            is_key = location[-1] == "[key]"
            yield Fault(location[:-1], text, value="") if is_key else Fault(location, text)


def _wording_of(entry: Any, document: YamlFile) -> Wording:
    """Our words for one of pydantic's errors."""
    written = document.written.get(entry["loc"], "")
    context = entry.get("ctx", {})
    if entry["type"] == REFUSED:
        text = Wording(context["reason"], context["suggestion"])
        unquoted = text.reason == wording.not_text(None).reason and not isinstance(
            entry["input"], dict | list
        )
        if unquoted and written != HIDDEN:
            # As it is written, and not as YAML reads it: of a version 9.20 it would keep 9.2.
            text = wording.not_text(written)
    elif entry["input"] is None:
        text = wording.no_value(removable=True)
    elif entry["type"] == "list_type":
        text = wording.not_a_list()
    elif entry["type"] in ("model_type", "model_attributes_type", "dict_type"):
        text = wording.not_a_mapping()
    else:
        text = Wording(entry["msg"], f"write a value such as {wording.EXAMPLE}")
    return wording.hidden(text) if written == HIDDEN else text


def _example(location: Location, model: type[ManifestSection]) -> str:
    """The example of a key, or of the list or mapping that an item belongs to, as it would be written."""
    field, item = field_at(location, model), False
    if field is None and location:
        field, item = field_at(location[:-1], model), True
    example = field.examples[0] if field and field.examples else ""
    if item:
        example = next(iter(example.values() if isinstance(example, dict) else example), "")
    text: str = yaml.safe_dump(example, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")
