"""Which names are zconfig's own, and how the name of a file becomes that of a variable."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from zconfig._origin import Origin, printable
from zconfig._redaction import Hidden, Secret
from zconfig.errors import Problem

PREFIX = "ZILLIZ_"

MILVUS = {
    "MILVUS_URI": "ZILLIZ_URI",
    "MILVUS_TOKEN": "ZILLIZ_TOKEN",
    "MILVUS_USER": "ZILLIZ_USER",
    "MILVUS_PASSWORD": "ZILLIZ_PASSWORD",
    "MILVUS_DB_NAME": "ZILLIZ_DB_NAME",
    "MILVUS_DB": "ZILLIZ_DB_NAME",
    "MILVUS_DATABASE": "ZILLIZ_DB_NAME",
}
"""The variables of applications on pymilvus, and those that they are for the alias `default`.

pymilvus itself reads `MILVUS_URI` alone (`pymilvus/settings.py`).
"""

_VARIABLE = re.compile(r"(?:zilliz|zconfig)_", re.IGNORECASE | re.ASCII)
_SETTING = re.compile(
    r"(?:zilliz|zconfig|milvus)_|service_binding_root\Z", re.IGNORECASE | re.ASCII
)
_KEY = re.compile(r"(?:zilliz|zconfig)[-._]", re.IGNORECASE | re.ASCII)
_SEPARATORS = str.maketrans("-.", "__")


# Letters of other alphabets that look like one of ASCII: Cyrillic, then Greek.
_LOOK_ALIKES = dict(
    zip(
        "\u0410\u0412\u0415\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0405\u0421\u0422\u0423\u0425"
        "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
        "ABEIJKMHOPSCTYXABEZHIKMNOPTYX",
        strict=True,
    )
)
_INVISIBLE = frozenset({"Cf", "Zs", "Zl", "Zp"})  # categories: formats, such as U+200B, and spaces


def plain(name: str) -> str:
    """Return a name without invisible characters, and with ASCII for what looks like it.

    Example:
        >>> plain("ZILLIZ_\u200bURI"), plain("\uff35\uff32\uff29"), plain("T\u041eKEN")
        ('ZILLIZ_URI', 'URI', 'TOKEN')
    """
    # Not `name.isascii()`: a plugin may return a name that is no text.
    return name if str.isascii(name) else "".join(map(_plain, name))


def _plain(char: str) -> str:
    import unicodedata

    if char.isascii():
        return char
    if unicodedata.category(char) in _INVISIBLE:
        return ""
    same = unicodedata.normalize("NFKC", char)  # full-width forms, for example
    if len(same) == 1 and same.isascii():
        return same
    alike = _LOOK_ALIKES.get(char.upper(), char)
    return alike if char.isupper() else alike.lower()


def oddities(name: str) -> str:
    """Return the characters of a name that are no ASCII; empty if `plain` leaves any of them.

    Example:
        >>> oddities("ZILLIZ_\u200bURI"), oddities("ZILLIZ_URI")
        ('U+200B (ZERO WIDTH SPACE)', '')
    """
    if name.isascii() or not plain(name).isascii():
        return ""
    import unicodedata

    odd = (c for c in dict.fromkeys(name) if not c.isascii())
    return " and ".join(f"U+{ord(c):04X} ({unicodedata.name(c, 'no name')})" for c in odd)


def as_key(name: str) -> str:
    """Return a name as the key of an entry: printable, but for characters that are told of."""
    return name if oddities(name) else printable(name)


def is_variable(name: str) -> bool:
    """Return whether an environment variable is zconfig's own.

    Example:
        >>> is_variable("zilliz_uri"), is_variable("ZILLIZ"), is_variable("PATH")
        (True, False, False)
    """
    return _VARIABLE.match(name) is not None


def is_setting(name: str) -> bool:
    """Return whether an environment variable may say something of a connection.

    Example:
        >>> is_setting("MILVUS_URI"), is_setting("SERVICE_BINDING_ROOT"), is_setting("PATH")
        (True, True, False)
    """
    return _SETTING.match(name) is not None


def is_key(name: str) -> bool:
    """Return whether a key in a dotenv file is zconfig's own; `-` and `.` separate as well.

    Example:
        >>> is_key("zilliz-prod.token"), is_key("DATABASE_URL")
        (True, False)
    """
    return _KEY.match(name) is not None


def is_read(name: str) -> bool:
    """Return whether a key in a dotenv file is read: zconfig's own, or one of `MILVUS`.

    Example:
        >>> is_read("zilliz-uri"), is_read("MILVUS_USER"), is_read("MILVUS_HOST")
        (True, True, False)
    """
    return is_key(name) or name in MILVUS


def normalize_key(name: str) -> str:
    """Return the name of a file or directory in the form of a variable.

    Example:
        >>> fold("eu-prod.token")
        'EU_PROD_TOKEN'
    """
    return name.translate(_SEPARATORS).upper()


def spellings(name: str) -> tuple[str, ...]:
    """Return the names that a file may have in place of one in lower case.

    Example:
        >>> spellings("zilliz_token")
        ('zilliz_token', 'ZILLIZ_TOKEN', 'zilliz-token')
    """
    return tuple(dict.fromkeys((name, name.upper(), name.replace("_", "-"))))


FileState = Literal["read", "tried by name", "absent", "refused"]

_SURROUNDING_SPACE = Problem(
    "surrounding_space",
    "the value has white space around it, which is kept",
    "remove it, unless it belongs to the value",
    severity="warning",
)
_QUOTED = Problem(
    "quoted_value",
    "the value begins and ends with a quote, which is part of it",
    "write it without quotes (docker --env-file keeps them)",
    severity="warning",
)
_COMMENT = Problem(
    "comment_in_value",
    "the value has a # after white space, which begins no comment there",
    "remove it and what follows, unless it belongs to the value",
    severity="warning",
)
_PLACEHOLDER = Problem(
    "placeholder",
    "the value is a placeholder that nothing replaced",
    "write the value itself (docker --env-file and systemd replace none)",
    severity="warning",
)

_NOT_TEXT = "[\x00\ud800-\udfff]"  # compiled when there is a value to look at


@dataclass(frozen=True, slots=True)
class Entry:
    """One key and its value, as written; nothing validated.

    Args:
        key: The name in the form of a variable, e.g. `ZILLIZ_PROD_TOKEN`.
        value: The text; an empty one means unset.
        origin: Where it stood.
        had_line_end: Whether it is a file's text, and the file ended in a line end, which is not
            part of the value.
    """

    key: str
    value: Secret
    origin: Origin
    had_line_end: bool = False


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A file or directory that a source looked for.

    Args:
        path: As the user would write it.
        state: Whether it was read, was not there, or was refused. A directory that may be entered,
            though not listed, is tried by name.
    """

    path: str
    state: FileState


class SourceResult(NamedTuple):
    """All that one source had to say: one layer of the configuration.

    Args:
        name: The layer's name, e.g. `environment` or `.env`.
        entries: Keys and values, in the order they stood.
        problems: What could not be read.
        files: The files looked for.
        foreign: Where keys stand that are not ours, or whose prefix is misspelt.
        places: Variables of a file that say where a server is, and that are not read.
        named: Whether somebody named the file or directory. One that is merely customary, as
            `.env` and `/run/secrets`, may be somebody else's.
    """

    name: str
    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()
    files: tuple[FileStatus, ...] = ()
    foreign: tuple[Origin, ...] = ()
    places: tuple[Entry, ...] = ()
    named: bool = True


def guarded(
    read: Callable[[], SourceResult],
    failed: Callable[[str], SourceResult],
    *,
    catch: type[BaseException] = Exception,
) -> SourceResult:
    """Read a source; whatever it raises is one problem of this source, and the others are read.

    Args:
        read: Reads the source.
        failed: Makes a reading of the kind of a failure. Its text is not told: it may quote what
            was read.
        catch: What is taken for a failure. Not Ctrl-C and `SystemExit`, in the thread that gets
            them.
    """
    try:
        return read()
    except catch as error:
        kind = _kind(error)
    return failed(kind)


def _kind(error: BaseException) -> str:
    response, status = getattr(error, "response", None), getattr(error, "status_code", None)
    # boto3 and the Azure SDK have one class for many causes.
    if isinstance(response, dict) and isinstance(details := response.get("Error"), dict):
        return str(details.get("Code"))
    return f"HTTP {status}" if isinstance(status, int) else type(error).__name__


def failed_at(origin: Origin, kind: str) -> SourceResult:
    """Return the reading of a source that failed by a fault of zconfig's."""
    problem = Problem(
        "source_failed",
        f"could not be read ({kind})",
        "report it as a fault of zconfig, with what is written there",
        origin=origin,
    )
    return SourceResult(origin.key, problems=(problem,), files=(FileStatus(origin.key, "refused"),))


def absent(path: str) -> SourceResult:
    """Return the reading of a file or directory that does not exist, which is no problem."""
    return SourceResult(path, files=(FileStatus(path, "absent"),))


def is_text(value: str) -> bool:
    """Return whether a value is text: no NUL, and nothing that could not be decoded."""
    return re.search(_NOT_TEXT, value) is None


def questionable(value: Hidden, origin: Origin) -> tuple[Problem, ...]:
    """Return what in a value most probably was not meant to be part of it, which it is.

    Args:
        value: The value, of whatever source.
        origin: Where it stood.

    Example:
        >>> origin = Origin("environment", "ZILLIZ_TOKEN")
        >>> [problem.code for problem in questionable(Hidden(" ${{ secrets.TOKEN }}"), origin)]
        ['surrounding_space', 'placeholder']
    """
    bare = Hidden(value.strip())
    spaced = any(end.isspace() and end not in "\r\n" for end in (value[:1], value[-1:]))
    quoted = len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]
    found = {
        _SURROUNDING_SPACE: spaced,
        _QUOTED: quoted,
        _COMMENT: " #" in value or "\t#" in value,
        _PLACEHOLDER: bare.startswith(("${", "$(")) and bare.endswith(("}", ")")),
    }
    return tuple(replace(problem, origin=origin) for problem, is_so in found.items() if is_so)
