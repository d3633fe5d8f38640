"""The program's own source, parsed: its functions, who calls them, and what its names stand for.

Nothing is imported or run, so that modules count which only a host can load.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


Branches = tuple[tuple[ast.AST, str], ...]
# A class's own names are none of the module's.
_BRANCHING = (ast.If, ast.For, ast.While, ast.Try, ast.Match, ast.ClassDef)


@dataclass(frozen=True)
class Assignment:
    """What a name is given, and where.

    Attributes:
        value: the expression; None where it is nothing to look at.
        line: of the assignment.
        branches: the statements around it that may or may not run it, each with the part that it is in.
    """

    value: ast.expr | None
    line: int
    branches: Branches


@dataclass(eq=False)
class Scope:
    """A module, or a function in it.

    Attributes:
        module: dotted name of the module.
        node: the function's definition; the module's tree for a module itself.
        outer: the scope around it; None for a module.
        functions: those that are defined in it (a module's also in its classes, by their bare names).
        assignments: what is assigned to each name, in the order of the source.
        imports: names that come from another module: (module, name there, or empty for the module itself).
    """

    module: str
    node: FunctionNode | ast.Module
    outer: Scope | None = None
    functions: dict[str, Scope] = field(default_factory=dict)
    assignments: dict[str, list[Assignment]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters, in order; none for a module."""
        if isinstance(self.node, ast.Module):
            return []
        given = self.node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        return [one.arg for one in every if one]

    def default_of(self, parameter: str) -> ast.expr | None:
        """The default of a parameter, if it has one."""
        if isinstance(self.node, ast.Module):
            return None
        given = self.node.args
        positional = [one.arg for one in [*given.posonlyargs, *given.args]]
        defaults = dict(zip(reversed(positional), reversed(given.defaults), strict=False))
        named = {
            one.arg: value for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value
        }
        return {**defaults, **named}.get(parameter)

    def arguments(self, call: ast.Call) -> dict[str, ast.expr]:
        """The expressions that a call gives to the parameters by name."""
        names = self.parameters
        if names[:1] in (["self"], ["cls"]):
            names = names[1:]
        given = {name: value for name, value in zip(names, call.args, strict=False)}
        return given | {word.arg: word.value for word in call.keywords if word.arg}

    def returned(self) -> list[ast.expr]:
        """What a function gives back, without functions inside it."""
        found: list[ast.expr] = []
        open_nodes: list[ast.AST] = list(ast.iter_child_nodes(self.node))
        while open_nodes:
            node = open_nodes.pop(0)
            if isinstance(node, ast.Return) and node.value:
                found.append(node.value)
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                open_nodes += ast.iter_child_nodes(node)
        return found


@dataclass
class Program:
    """All modules."""

    modules: dict[str, Scope]
    calls: list[tuple[Scope, ast.Call]] = field(default_factory=list)
    mappings: list[tuple[Scope, ast.Dict]] = field(default_factory=list)
    returns: list[tuple[Scope, ast.Tuple]] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    branches: dict[ast.Name, Branches] = field(default_factory=dict)
    raised: set[ast.Call] = field(default_factory=set)

    @classmethod
    def read(cls, folders: Mapping[str, Path]) -> Program:
        """Parse every module below the folders, whose names begin as given."""
        program = cls({})
        for package, folder in folders.items():
            for path in sorted(folder.rglob("*.py")):
                if path.parent.name == "reference":
                    continue
                parts = path.relative_to(folder).with_suffix("").parts
                name = ".".join([package, *(part for part in parts if part != "__init__")])
                scope = Scope(name, ast.parse(path.read_text(encoding="utf-8")))
                program.modules[name] = scope
                for node in ast.iter_child_nodes(scope.node):
                    program._visit(node, scope)
        return program

    @cached_property
    def error_names(self) -> set[str]:
        """The program's own kinds of errors."""
        names = {"Exception"}
        while more := {name for name, bases in self.classes.items() if names.intersection(bases)} - names:
            names |= more
        return names - {"Exception"}

    @cached_property
    def callers(self) -> dict[Scope, list[tuple[Scope, ast.Call]]]:
        """Who calls each function."""
        found: dict[Scope, list[tuple[Scope, ast.Call]]] = {}
        for scope, call in self.calls:
            if function := self.function_of(call, scope):
                found.setdefault(function, []).append((scope, call))
        return found

    def function_of(self, call: ast.Call, scope: Scope) -> Scope | None:
        """The function of the program that a call runs, as far as its name tells."""
        if isinstance(call.func, ast.Name):
            return self._function_named(call.func.id, scope)
        if not isinstance(call.func, ast.Attribute):
            return None
        if isinstance(call.func.value, ast.Name):
            module = self._module_named(call.func.value.id, scope)
            if module:
                return module.functions.get(call.func.attr)
        # A method: of this module where it has one of that name.
        here = self.modules[scope.module].functions.get(call.func.attr)
        return here if here and here.parameters[:1] in (["self"], ["cls"]) else None

    def constant(self, name: str, scope: Scope) -> tuple[ast.expr, Scope] | None:
        """What a module's or an imported name stands for, with the module that defines it."""
        module = self.modules[scope.module]
        if name in module.imports:
            origin, there = module.imports[name]
            other = self.modules.get(origin)
            return self.constant(there, other) if other and there else None
        given = [one for one in module.assignments.get(name, []) if not one.branches]
        value = given[0].value if len(given) == 1 else None
        return (value, module) if value is not None else None

    def attribute(self, node: ast.Attribute, scope: Scope) -> tuple[ast.expr, Scope] | None:
        """What ``module.NAME`` stands for."""
        if not isinstance(node.value, ast.Name):
            return None
        module = self._module_named(node.value.id, scope)
        return self.constant(node.attr, module) if module else None

    def values(self, name: ast.Name, scope: Scope) -> list[ast.expr | None]:
        """What a local name may stand for where it is used: the assignments that reach that place."""
        found: list[ast.expr | None] = []
        around = dict(self.branches.get(name, ()))
        for one in reversed(scope.assignments.get(name.id, [])):
            if one.line >= name.lineno or any(around.get(node, part) != part for node, part in one.branches):
                continue  # it comes later, or stands in another branch of the same condition
            found.append(one.value)
            if all(node in around for node, _ in one.branches):
                break  # it always runs before, so what was assigned earlier is gone
        return found[::-1]

    def _function_named(self, name: str, scope: Scope) -> Scope | None:
        here: Scope | None = scope
        while here:
            if name in here.functions:
                return here.functions[name]
            if name in here.imports:
                origin, there = here.imports[name]
                other = self.modules.get(origin)
                return other.functions.get(there) if other else None
            here = here.outer
        return None

    def _module_named(self, name: str, scope: Scope) -> Scope | None:
        here: Scope | None = scope
        while here:
            if name in here.imports:
                origin, there = here.imports[name]
                return self.modules.get(f"{origin}.{there}" if there else origin)
            here = here.outer
        return None

    def _visit(self, node: ast.AST, scope: Scope, branches: Branches = ()) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for outside in [*node.decorator_list, *node.args.defaults]:
                self._visit(outside, scope, branches)
            inner = Scope(scope.module, node, scope)
            scope.functions.setdefault(node.name, inner)
            for statement in node.body:
                self._visit(statement, inner)
            return
        self._note(node, scope, branches)
        for part, value in ast.iter_fields(node):
            inside = (*branches, (node, part)) if isinstance(node, _BRANCHING) else branches
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self._visit(child, scope, inside)

    def _note(self, node: ast.AST, scope: Scope, branches: Branches) -> None:
        match node:
            case ast.Call():
                self.calls.append((scope, node))
            case ast.Dict():
                self.mappings.append((scope, node))
            case ast.Return(value=ast.Tuple() as value):
                self.returns.append((scope, value))
            case ast.Raise(exc=ast.Call() as error):
                self.raised.add(error)
            case ast.ClassDef(name=name, bases=bases):
                self.classes[name] = [_last_name(base) for base in bases]
            case ast.Name():
                self.branches[node] = branches
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, value, scope, branches)
            case ast.AnnAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
                self._assign(target, value, scope, branches)
            case ast.AugAssign(target=ast.Name() as target, value=value):
                before = ast.copy_location(ast.Name(target.id, ast.Load()), target)
                self.branches[before] = branches
                self._assign(target, ast.BinOp(before, ast.Add(), value), scope, branches)
            case ast.ImportFrom(names=names):
                for alias in names:
                    scope.imports[alias.asname or alias.name] = self._origin(node, alias.name, scope)

    def _assign(self, target: ast.expr, value: ast.expr | None, scope: Scope, branches: Branches) -> None:
        for name in ast.walk(target):
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                given = value if name is target else None
                scope.assignments.setdefault(name.id, []).append(Assignment(given, name.lineno, branches))

    def _origin(self, node: ast.ImportFrom, name: str, scope: Scope) -> tuple[str, str]:
        # On a host the plugins' shared modules are found below ansible.module_utils.
        base = (node.module or "").replace("ansible.module_utils", "plugins.module_utils")
        if node.level:
            package = scope.module.split(".")[: -node.level]
            base = ".".join([*package, *filter(None, [base])])
        return base, name


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def own_modules(root: Path) -> dict[str, Path]:
    """The folders with what speaks to operators: package name to folder."""
    return {"dap": root / "scripts" / "dap", "plugins": root / "ansible" / "plugins"}
