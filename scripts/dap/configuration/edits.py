"""Changes to `platform.yml`: only the lines concerned change; comments and everything else stay."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dap.configuration.inventory import Inventory, load_inventory
from dap.files import write_atomic
from dap.layout import compose_dir, inventory_dir
from dap.services.manifest import find_folders


def change(inventory: Inventory, edit: Callable[[str], str]) -> None:
    """Write the changed file; if it is wrong then, it is put back.

    Raises:
        ConfigurationError: what would be wrong; nothing was written.
    """
    with changed(inventory, edit):
        roots = [compose_dir(), inventory_dir(inventory.name) / "compose"]
        load_inventory(inventory.name, find_folders(roots))


@contextmanager
def changed(inventory: Inventory, edit: Callable[[str], str]) -> Iterator[None]:
    """Write the changed file; if the block fails, it is put back."""
    file = inventory.platform_file
    before = file.read_bytes()
    mode = stat.S_IMODE(file.stat().st_mode)
    write_atomic(file, edit(before.decode()).encode(), mode)
    try:
        yield
    except BaseException:
        write_atomic(file, before, mode)
        raise


# --- the text --------------------------------------------------------------------------------------------


def with_item(text: str, section: str, entry: Mapping[str, Any]) -> str:
    """The text with one item more in a list of the top level."""
    items = _value(_root(text), section)
    block = yaml.safe_dump([dict(entry)], sort_keys=False, allow_unicode=True, width=1000)
    if items is None:
        return f"{text.rstrip()}\n\n{section}:\n{_indented(block, 2)}"
    if isinstance(items, SequenceNode) and items.value and items.flow_style:
        item = yaml.safe_dump(dict(entry), default_flow_style=True, sort_keys=False, width=1000).strip()
        end = items.end_mark.index - 1
        return f"{text[:end].rstrip()}, {item}{text[end:]}"
    if isinstance(items, SequenceNode) and items.value:
        lines = text.splitlines(keepends=True)
        line = _last_line(items.value[-1]) + 1
        lines[line - 1] = lines[line - 1].rstrip("\n") + "\n"
        return "".join([*lines[:line], _indented(block, items.start_mark.column), *lines[line:]])
    start, end = items.start_mark.index, items.end_mark.index
    return f"{text[:start].rstrip(' ')}\n{_indented(block, 2).rstrip()}{text[end:]}"


def without_item(text: str, section: str, index: int) -> str:
    """The text without an item of a list of the top level; without the list where it was the only one."""
    root = _root(text)
    items = _value(root, section)
    if len(items.value) == 1:
        key = next(name for name, _ in root.value if name.value == section)
        if root.flow_style or items.flow_style:
            start, end = items.start_mark.index, items.end_mark.index
            return f"{text[:start]}[]{text[end:]}"
        lines = text.splitlines(keepends=True)
        return "".join([*lines[: key.start_mark.line], *lines[_last_line(items.value[0]) + 1 :]])
    item = items.value[index]
    if items.flow_style:
        # With the comma after it, or before it where it is the last.
        if index + 1 < len(items.value):
            start, end = item.start_mark.index, items.value[index + 1].start_mark.index
        else:
            start, end = items.value[index - 1].end_mark.index, item.end_mark.index
        return text[:start] + text[end:]
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: item.start_mark.line], *lines[_last_line(item) + 1 :]])


def with_switch(text: str, item: tuple[str, str, str], switch: str, on: bool) -> str:
    """The text in which a switch of an item is on or off.

    Args:
        item: the list of the top level, and the key that has the value by which the item is found.
    """
    section, key, wanted = item
    items = _value(_root(text), section)
    for node in items.value if isinstance(items, SequenceNode) else []:
        found = _value(node, key)
        if found is None or found.value != wanted:
            continue
        word = "true" if on else "false"
        if there := _value(node, switch):
            return text[: there.start_mark.index] + word + text[there.end_mark.index :]
        if node.flow_style:
            end = node.end_mark.index - 1
            return f"{text[:end].rstrip()}, {switch}: {word}{text[end:]}"
        lines = text.splitlines(keepends=True)
        line = _last_line(found) + 1
        lines[line - 1] = lines[line - 1].rstrip("\n") + "\n"
        added = f"{' ' * node.start_mark.column}{switch}: {word}\n"
        return "".join([*lines[:line], added, *lines[line:]])
    return text


def _root(text: str) -> Any:
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _value(node: Node, key: str) -> Any:
    """The node of a key's value in a mapping; None without the key."""
    pairs = node.value if isinstance(node, MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _last_line(node: Any) -> int:
    """The line that a node ends in. That of a block is told too late: comments below it count."""
    if isinstance(node, ScalarNode) or node.flow_style or not node.value:
        mark = node.end_mark
        return int(mark.line if mark.column else mark.line - 1)
    last = node.value[-1]
    return max(map(_last_line, last)) if isinstance(node, MappingNode) else _last_line(last)


def _indented(block: str, columns: int) -> str:
    return "".join(" " * columns + line for line in block.splitlines(keepends=True))
