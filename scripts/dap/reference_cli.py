"""The reference page of the command line, written from the program itself."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import click

from dap.cli import main
from dap.errors import EXIT_FAILED, EXIT_REFUSED
from dap.vault import PASSWORD_VARIABLE

LINE = 110

_INTRODUCTION = """\
# Command line

<!-- Generated from scripts/dap/cli.py by `python -m dap.reference`: change that, not this page. -->

`dap` works on one inventory at a time: `local`, unless `-e` before the verb or the environment variable
`DAP_INVENTORY` names another. `dap --help` lists the verbs, and `-h` after a verb its options.

What a person or a program wants to read goes to standard output, progress and warnings to standard error. So
`--json` prints JSON and nothing else, whatever else happens.
"""

_EXIT_CODES = {
    0: "Done.",
    EXIT_FAILED: (
        "Failed: the message says what to do next, and where the full log is. `dap status` and `dap verify`"
        " end so, too, when not all is well."
    ),
    EXIT_REFUSED: "Refused: the configuration, a host or the command itself is wrong. Nothing was changed.",
}

_VARIABLES = {
    "DAP_INVENTORY": "Inventory to work on, where `-e` names none.",
    "DAP_INVENTORIES": "Folder with the inventories, in place of `ansible/inventories`.",
    "DAP_SECRETS": "Folder with the secrets and logs of all inventories, in place of `secrets`.",
    PASSWORD_VARIABLE: "File with the password of encrypted secrets, or a program that prints it.",
}


def cli_page() -> str:
    """Every verb, argument and option of `dap`, in Markdown."""
    leaves = list(_leaves(main, ("dap",)))
    parts = [_INTRODUCTION, "## Verbs\n"]
    rows = [[f"[`{name}`](#{name.replace(' ', '-')})", _sentence(command)] for name, command in leaves]
    parts += [table(["Verb", "What it does"], rows), "## Options before the verb\n", _options(main)]
    parts += [_verb(name, command) for name, command in leaves]
    rows = [[str(code), meaning] for code, meaning in _EXIT_CODES.items()]
    parts += ["## Exit codes\n", table(["Code", "Meaning"], rows)]
    rows = [[f"`{name}`", meaning] for name, meaning in _VARIABLES.items()]
    parts += ["## Environment variables\n", table(["Variable", "Meaning"], rows)]
    return "\n".join(parts)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar in a cell is no border."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in [header, *rows]]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], f"|{'---|' * len(header)}", *lines[1:]]) + "\n"


def paragraph(text: str) -> str:
    """A text in lines that can be read without scrolling."""
    return textwrap.fill(text, LINE, break_long_words=False, break_on_hyphens=False) + "\n"


def _leaves(group: click.Group, above: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Every verb that does something, with its full name."""
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from _leaves(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


def _help(command: click.Command) -> str:
    return " ".join(inspect.cleandoc(command.help or "").split())


def _sentence(command: click.Command) -> str:
    return command.get_short_help_str(limit=1000)


def _verb(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    text = paragraph(_help(command).replace("<", "\\<"))
    parts = [f"## `{name}`\n", text, f"```text\n{name} {usage}\n```\n"]
    arguments = [
        [f"`{parameter.human_readable_name.upper()}`", _values(parameter)]
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    if arguments:
        parts.append(table(["Argument", "Values"], arguments))
    if any(isinstance(parameter, click.Option) for parameter in command.params):
        parts.append(_options(command))
    return "\n".join(parts)


def _values(parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Choice):
        return " or ".join(f"`{choice}`" for choice in parameter.type.choices)
    kinds = {"integer": "whole number", "path": "path", "file": "path"}
    kind = kinds.get(parameter.type.name, "text")
    if parameter.nargs == -1:
        return "any number" if kind == "text" else f"any number of {kind}s"
    return kind if parameter.required else f"{kind}, optional"


def _options(command: click.Command) -> str:
    rows = []
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
            rows.append([names, _value(option), _default(option), option.help or ""])
    return table(["Option", "Value", "Default", "Meaning"], rows)


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    return f"`{option.make_metavar(click.Context(main))}`"


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    default = option.to_info_dict()["default"]
    if option.is_flag:
        return f"`{option.opts[-1]}`" if default and option.secondary_opts else ""
    if option.multiple or default is None:
        return "none"
    variable = f"`{option.envvar}`, else " if option.envvar else ""
    return f"{variable}`{default}`"
