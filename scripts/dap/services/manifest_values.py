"""The kinds of single values that a service manifest may hold, each with its check."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from dap.configuration import values

NAME_PATTERN = r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?"
NAME_RULE = "at most 40 small letters, digits and hyphens, with a letter first and no hyphen at the end"


def _memory_or_share(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"([1-9][0-9]?|100)%", value):
        return value
    return values.memory(value)


def _user(value: object) -> object:
    return 0 if value == 0 and not isinstance(value, bool) else _ordinary_user(value)


_ordinary_user = values.number("a user number", 1000, 65533)

Text = Annotated[str, BeforeValidator(values.text_with(str))]
Line = Annotated[str, BeforeValidator(values.one_line(200))]
Name = Annotated[str, BeforeValidator(values.name(NAME_PATTERN, NAME_RULE))]
Identifier = Annotated[
    str,
    BeforeValidator(
        values.name(
            r"[a-z][a-z0-9_]{0,39}",
            "at most 40 small letters, digits and underscores, with a letter first",
            separators="_",
        )
    ),
]
BucketName = Annotated[
    str,
    BeforeValidator(
        values.name(
            r"[a-z][a-z0-9-]{1,61}[a-z0-9]",
            "3 to 63 small letters, digits and hyphens, with a letter first and no hyphen at the end",
        )
    ),
]
# The version becomes part of the image's tag, where Docker allows nothing else.
Version = Annotated[
    str,
    BeforeValidator(
        values.matching(
            r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}", "is not a version of letters, digits, dots and hyphens"
        )
    ),
]
Label = Annotated[
    str,
    BeforeValidator(
        values.matching(
            r"@|[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?",
            "is neither @ nor one label of a host name in small letters",
        )
    ),
]
# These go into the proxy's configuration as they are.
UrlPath = Annotated[
    str,
    BeforeValidator(
        values.matching(
            r"/[A-Za-z0-9/._~-]*", "is not a path of letters, digits and / . _ ~ - with a slash first"
        )
    ),
]
Header = Annotated[
    str,
    BeforeValidator(
        values.matching(r"[^\"\\$\n]*", 'has a character that no header value may have here: " \\ $')
    ),
]
Size = Annotated[
    str,
    BeforeValidator(values.matching(r"0|[1-9][0-9]*[kmg]", "is not a size: a number with k, m or g, or 0")),
]
Folder = Annotated[str, BeforeValidator(values.matching(r"/[A-Za-z0-9/._-]+", "is not an absolute path"))]
Mode = Annotated[str, BeforeValidator(values.matching(r"0[0-7]{3}", "is not a mode of four octal digits"))]
Signal = Annotated[str, BeforeValidator(values.matching(r"[A-Z][A-Z0-9]{1,9}", "is not a signal"))]
Memory = Annotated[str, BeforeValidator(_memory_or_share)]
Amount = Annotated[str, BeforeValidator(values.memory)]
User = Annotated[int, Field(ge=0, le=65533), BeforeValidator(_user)]
Seconds = Annotated[int, Field(ge=5, le=3600), BeforeValidator(values.number("a number of seconds", 5, 3600))]
Pids = Annotated[
    int, Field(ge=1, le=32768), BeforeValidator(values.number("a number of processes", 1, 32768))
]
Length = Annotated[
    int, Field(ge=12, le=128), BeforeValidator(values.number("a number of characters", 12, 128))
]
Prefix = Annotated[
    str,
    BeforeValidator(
        values.matching(r"[A-Za-z0-9._~-]{0,20}", "is not a prefix of at most 20 letters, digits and . _ ~ -")
    ),
]
