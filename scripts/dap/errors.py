"""The error types of the program: one for what can go wrong, one for what is wrong in the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_CHANGES = 3
"""What `dap plan` ends with when a deploy would change something."""


class DapError(Exception):
    """Something went wrong that the operator can act on.

    Args:
        message: what happened, one line, without a full stop where a path ends it.
        next_step: the command to run or the change to make next.
        log: file that holds the whole story, if there is one.
        exit_code: 1 for a failure, 2 for a refusal (bad configuration or usage; nothing was touched).
    """

    def __init__(
        self, message: str, next_step: str = "", *, log: Path | None = None, exit_code: int = EXIT_FAILED
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.log = log
        self.exit_code = exit_code

    def __str__(self) -> str:
        lines = [self.message]
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        if self.log:
            lines.append(f"  log:  {self.log}")
        return "\n".join(lines)


class RefusedError(DapError):
    """A refusal before anything was touched (exit code 2)."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message, next_step, exit_code=EXIT_REFUSED)


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong in an operator's file.

    Attributes:
        file: the file it stands in, as the operator would open it.
        path: where in the file, dotted, with list indexes: ``projects[1].name``; empty for the whole file.
        value: what stands there, as written (``repr``-like, shortened); empty when something is missing.
        reason: why it is refused.
        suggestion: what to write instead, or what to do.
    """

    file: str
    path: str
    value: str
    reason: str
    suggestion: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else self.file
        value = f" = {self.value}" if self.value else ""
        return f"{where}{value}\n    {self.reason}\n    {self.suggestion}"


class ConfigurationError(RefusedError):
    """Everything that is wrong in the operator's files, listed at once."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = sorted(set(findings))
        count = len(self.findings)
        head = f"{count} error{'s' if count != 1 else ''} in the configuration; nothing was changed:"
        super().__init__("\n".join([head, *(f"  {finding}" for finding in self.findings)]))


@dataclass
class Problems:
    """What stands in the way on the hosts, gathered so that an operator learns of all of it at once.

    Attributes:
        entries: each in the form of a `Finding`: what, why, and what to do, a line each.
    """

    entries: list[str] = field(default_factory=list)

    def add(self, problem: Finding | RefusedError | str) -> None:
        """Keep a problem, and go on."""
        if isinstance(problem, ConfigurationError):
            self.entries += [str(finding) for finding in problem.findings]
        elif isinstance(problem, RefusedError):
            self.entries.append("\n    ".join([problem.message, problem.next_step]))
        else:
            self.entries.append(str(problem))

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Take a refusal as one of the problems."""
        try:
            yield
        except RefusedError as error:
            self.add(error)

    def refuse(self) -> None:
        """End here if there are any.

        Raises:
            RefusedError: with all of them.
        """
        entries = list(dict.fromkeys(self.entries))
        if entries:
            count = f"{len(entries)} error{'s' if len(entries) > 1 else ''}"
            raise RefusedError("\n  ".join([f"preflight found {count}; nothing was changed:", *entries]))
