"""``gitlab-rails runner -``: runs Ruby on classes that stand for GitLab's models.

The classes are in ``models.rb``. They ask this process for records, a line of JSON each, over two pipes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import passwords
from .access import find_token
from .api import tokens
from .api.users import create_user
from .double import Double
from .records import PersonalAccessToken, User

MODELS = Path(__file__).parent / "models.rb"
ROOT = "root"
NO_SECRET = {"password", "digest"}


class InvalidError(Exception):
    """A record that GitLab's model does not save. Says why, as the model does."""


def _shown(record: User | PersonalAccessToken) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in NO_SECRET}


class Models:
    """Answers what the Ruby classes ask."""

    def __init__(self, double: Double) -> None:
        self._double = double
        self._calls: dict[str, Callable[..., Any]] = {
            "users": lambda: [_shown(one) for one in double.store.find(User)],
            "tokens": lambda: [_shown(one) for one in double.store.find(PersonalAccessToken)],
            "valid_password": self._valid_password,
            "find_token": self._find_token,
            "save_user": self._save_user,
            "save_token": self._save_token,
            "settings": lambda: double.settings(),
            "change_settings": self._change_settings,
        }

    def answer(self, line: str) -> str:
        asked = json.loads(line)
        try:
            return json.dumps({"value": self._calls[asked["call"]](*asked["arguments"])})
        except InvalidError as problem:
            return json.dumps({"invalid": str(problem)})

    def _valid_password(self, user: int, password: str) -> bool:
        return passwords.matches(password, self._double.store.must(User, user).password)

    def _find_token(self, text: str) -> dict[str, Any] | None:
        found = find_token(self._double.store, text)
        return _shown(found) if found else None

    def _save_user(self, number: int, changes: dict[str, Any]) -> dict[str, Any]:
        user = self._double.store.must(User, number)
        password = changes.pop("password", None)
        confirmation = changes.pop("password_confirmation", None)
        if password is not None:
            check_password(self._double, password)
            if confirmation is not None and confirmation != password:
                raise InvalidError("Password confirmation doesn't match Password")
            user.password = passwords.digest(password)
        for name, value in changes.items():
            setattr(user, name, value)
        return _shown(self._double.store.save(user))

    def _save_token(self, values: dict[str, Any], text: str | None) -> dict[str, Any]:
        store = self._double.store
        known = store.get(PersonalAccessToken, values.get("id"))
        token = known or PersonalAccessToken()
        for name, value in values.items():
            setattr(token, name, value)
        user = store.get(User, token.user_id)
        if user is None:
            raise InvalidError("User must exist")
        if not token.name:
            raise InvalidError("Name can't be blank")
        try:
            if known is None:
                tokens.check(user, token.scopes, token.expires_at)
        except tokens.RefusedError as problem:
            raise InvalidError(f"{problem.field.replace('_', ' ').capitalize()} {problem.problem}") from None
        if text is not None:
            tokens.save(store, token, text)
        else:
            store.save(token)
        return _shown(token)

    def _change_settings(self, changes: dict[str, Any]) -> dict[str, Any]:
        self._double.change_settings(changes)
        return self._double.settings()


def check_password(double: Double, password: str) -> None:
    least = double.settings()["minimum_password_length"]
    if len(password) < least:
        raise InvalidError(f"Password is too short (minimum is {least} characters)")
    common = ("password", "12345678", "gitlab", "qwerty")
    if any(one in password.lower() for one in common):
        raise InvalidError("Password must not contain commonly used combinations of words and letters")


def run(double: Double, script: str) -> int:
    """Run a script; its output goes where this process's goes.

    Returns:
        The exit status.
    """
    to_ruby, from_ruby = os.pipe(), os.pipe()
    process = subprocess.Popen(
        ["ruby", str(MODELS)],
        stdin=subprocess.PIPE,
        pass_fds=(to_ruby[0], from_ruby[1]),
        env=os.environ | {"DOUBLE_PIPES": f"{to_ruby[0]} {from_ruby[1]}"},
    )
    os.close(to_ruby[0])
    os.close(from_ruby[1])
    assert process.stdin
    process.stdin.write(script.encode())
    process.stdin.close()
    models = Models(double)
    with os.fdopen(to_ruby[1], "w") as answers, os.fdopen(from_ruby[0]) as questions:
        for line in questions:
            answers.write(models.answer(line) + "\n")
            answers.flush()
    return process.wait()


def first_start(double: Double, password: str) -> None:
    """The first administrator, once; the password counts only then."""
    if double.store.first(User, username=ROOT):
        return
    try:
        check_password(double, password)
    except InvalidError as problem:
        sys.exit(f"Could not create the default administrator account:\n\n--> {problem}")
    create_user(
        double,
        User(
            username=ROOT,
            name="Administrator",
            email="admin@example.com",
            password=passwords.digest(password),
            admin=True,
        ),
    )
