"""The names that zconfig reads, and the results that every source returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, NamedTuple

from zconfig._origin import Origin
from zconfig._redaction import Hidden, Secret
from zconfig._value import Value, value
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
"""The variables of pymilvus applications, and their equivalents for the alias `default`.

pymilvus itself reads only `MILVUS_URI` (`pymilvus/settings.py`).
"""

_VARIABLE = re.compile(r"(?:zilliz|zconfig)_", re.IGNORECASE | re.ASCII)
_SETTING = re.compile(
    r"(?:zilliz|zconfig|milvus)_|service_binding_root\Z", re.IGNORECASE | re.ASCII
)
_KEY = re.compile(r"(?:zilliz|zconfig)[-._]", re.IGNORECASE | re.ASCII)
_SEPARATORS = str.maketrans("-.", "__")


# Letters of other alphabets that look like an ASCII letter: Cyrillic, then Greek; and a minus.
_LOOK_ALIKES = dict(
    zip(
        "\u0410\u0412\u0415\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0405\u0421\u0422\u0423\u0425"
        "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u2212",
        "ABEIJKMHOPSCTYXABEZHIKMNOPTYX_",
        strict=True,
    )
)
_FILLERS = frozenset("\u115f\u1160\u2800")  # letters and a symbol that are blank
_NAME = r"[A-Za-z0-9_.-]*"
_SPACES_AND_CONTROLS = r"[\x00-\x20\x7f]"


def plain(name: str) -> str:
    r"""Return a name without marks and invisible characters, and with look-alikes as ASCII.

    Examples:
        >>> plain("ZILLIZ_\u200bURI\r"), plain("\uff35\uff32\uff29"), plain("T\u041eKE\u0301N")
        ('ZILLIZ_URI', 'URI', 'TOKEN')
    """
    return re.sub(_SPACES_AND_CONTROLS, "", plain_text(name))


def plain_text(text: str) -> str:
    """Convert a text as `plain` does a name, but keep the spaces and controls of ASCII."""
    # Not `text.isascii()`: a plugin may return a name that is not a string.
    return text if str.isascii(text) else "".join(map(_plain, text))


def _plain(char: str) -> str:
    import unicodedata

    category = unicodedata.category(char)
    if char.isascii() or category == "Pd":
        return char if char.isascii() else "_"
    parts = unicodedata.normalize("NFKD", char)  # splits a letter and its accent
    if category[0] == "Z" or category in {"Cc", "Cf"} or parts in _FILLERS:
        return ""
    return "".join(_alike(each) for each in parts if unicodedata.category(each)[0] != "M")


def _alike(char: str) -> str:
    upper = char.upper()  # a dotless i becomes ASCII
    alike = _LOOK_ALIKES.get(upper, upper if upper.isascii() else char)
    return alike if char.isupper() else alike.lower()


def oddities(name: str) -> str:
    r"""Return the code points of the characters that a name of zconfig cannot have.

    Examples:
        >>> oddities("ZILLIZ_\u200bURI"), oddities("ZILLIZ_URI"), oddities("ZILLIZ_URI\t")
        ('U+200B (ZERO WIDTH SPACE)', '', 'U+0009 (CONTROL CHARACTER)')
    """
    if re.fullmatch(_NAME, name):
        return ""
    return " and ".join(map(_code_point, dict.fromkeys(re.sub(r"[A-Za-z0-9_.-]", "", name))))


def _code_point(char: str) -> str:
    import unicodedata

    no_name = "CONTROL CHARACTER" if unicodedata.category(char) == "Cc" else "no name"
    return f"U+{ord(char):04X} ({unicodedata.name(char, no_name)})"


def not_read(name: str) -> str:
    """Return the message about a name that is not read.

    Examples:
        >>> not_read("MILVUS_HOST"), not_read("ZILLIZ_\u200bURI")
        ('is not read', 'is not read: its name contains U+200B (ZERO WIDTH SPACE)')
    """
    odd = oddities(name)
    return f"is not read: its name contains {odd}" if odd else "is not read"


def is_variable(name: str) -> bool:
    """Return whether an environment variable is one of zconfig.

    Examples:
        >>> is_variable("zilliz_uri"), is_variable("ZILLIZ"), is_variable("PATH")
        (True, False, False)
    """
    return _VARIABLE.match(name) is not None


def is_setting(name: str) -> bool:
    """Return whether an environment variable may configure a connection.

    Examples:
        >>> is_setting("MILVUS_URI"), is_setting("SERVICE_BINDING_ROOT"), is_setting("PATH")
        (True, True, False)
    """
    return _SETTING.match(name) is not None


def is_key(name: str) -> bool:
    """Return whether a key in a dotenv file is one of zconfig; `-` and `.` count as `_`.

    Examples:
        >>> is_key("zilliz-prod.token"), is_key("DATABASE_URL")
        (True, False)
    """
    return _KEY.match(name) is not None


def is_read(name: str) -> bool:
    """Return whether a key in a dotenv file is read: one of zconfig, or one of `MILVUS`.

    Examples:
        >>> is_read("zilliz-uri"), is_read("MILVUS_USER"), is_read("MILVUS_HOST")
        (True, True, False)
    """
    return is_key(name) or name in MILVUS


def normalize_key(name: str) -> str:
    """Return the name of a file or directory in the form of a variable.

    Examples:
        >>> normalize_key("eu-prod.token")
        'EU_PROD_TOKEN'
    """
    return name.translate(_SEPARATORS).upper()


def spellings(name: str) -> tuple[str, ...]:
    """Return the accepted file names for a name in lower case.

    Examples:
        >>> spellings("zilliz_token")
        ('zilliz_token', 'ZILLIZ_TOKEN', 'zilliz-token')
    """
    return tuple(dict.fromkeys((name, name.upper(), name.replace("_", "-"))))


FileState = Literal["read", "tried by name", "absent", "refused"]

_SURROUNDING_SPACE = Problem(
    "surrounding_space",
    "the value begins or ends with white space, which is kept",
    "remove the white space, unless it belongs to the value",
    severity="warning",
)
_QUOTED = Problem(
    "quoted_value",
    "the value is enclosed in quotes, which are part of it",
    "remove the quotes (docker --env-file keeps them)",
    severity="warning",
)
_COMMENT = Problem(
    "comment_in_value",
    "the value contains a # after white space, which does not start a comment here",
    "remove the # and the text after it, unless they belong to the value",
    severity="warning",
)
_PLACEHOLDER = Problem(
    "placeholder",
    "the value is a placeholder that was not replaced",
    "write the value itself (docker --env-file and systemd do not replace placeholders)",
    severity="warning",
)

_LITERAL = replace(_PLACEHOLDER, remedy="remove the single quotes, or write the value itself")

DOUBTFUL = frozenset({"surrounding_space", "quoted_value", "comment_in_value", "placeholder"})
"""The codes of the problems that `questionable` returns."""

_NOT_TEXT = "[\x00\ud800-\udfff]"  # compiled when the first value is read


@value
class Entry(Value):
    """One key and its value as written, not validated.

    Args:
        key: The name in the form of a variable, e.g. `ZILLIZ_PROD_TOKEN`.
        value: The text; an empty one means unset.
        origin: The place it was set.
        had_line_end: Whether a line end at the end of the file was removed from the value.
    """

    key: str
    value: Secret
    origin: Origin
    had_line_end: bool = False


@value
class FileStatus(Value):
    """The state of a file or directory that a source looked for.

    Args:
        path: The path as the user would write it.
        state: Whether it was read, is absent, or was rejected. In a directory that can be entered
            but not listed, files are tried by name.
    """

    path: str
    state: FileState


class SourceResult(NamedTuple):
    """The result of one source: one layer of the configuration.

    Args:
        name: The layer's name, e.g. `environment` or `.env`.
        entries: Keys and values, in the order of the source.
        problems: Values that could not be read.
        files: The files that the source looked for.
        foreign: The origins of keys of other programs, and of keys with a misspelt prefix.
        places: Variables in a file that name a server's address, and that are not read.
        named: Whether an option names the file or directory. A default location, such as `.env`
            or `/run/secrets`, may belong to another application.
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
    """Read a source, and turn an exception into one problem of this source.

    Args:
        read: Reads the source.
        failed: Makes the result from the kind of the failure. The exception's text is not used,
            since it may quote a value.
        catch: The exceptions to catch. In the main thread, not Ctrl-C or `SystemExit`.
    """
    try:
        return read()
    except catch as error:
        kind = _kind(error)
    return failed(kind)


def _kind(error: BaseException) -> str:
    response, status = getattr(error, "response", None), getattr(error, "status_code", None)
    # boto3 and the Azure SDK use one class for many causes.
    details = response.get("Error") if isinstance(response, dict) else None
    code = str(details.get("Code")) if isinstance(details, dict) else ""
    if re.fullmatch(r"[\w.-]{1,99}", code):
        return code
    return f"HTTP {status}" if isinstance(status, int) else type(error).__name__


def failed_at(origin: Origin, kind: str) -> SourceResult:
    """Return the result of a source that failed because of a bug in zconfig."""
    problem = Problem(
        "source_failed",
        f"could not be read ({kind})",
        "report it as a bug in zconfig, with a description of the content",
        origin=origin,
    )
    return refused(origin.key, problem)


def absent(path: str) -> SourceResult:
    """Return the result of a file or directory that does not exist: no problem."""
    return SourceResult(path, files=(FileStatus(path, "absent"),))


def refused(path: str, *problems: Problem) -> SourceResult:
    """Return the result of a file or directory that cannot be used."""
    return SourceResult(path, problems=problems, files=(FileStatus(path, "refused"),))


def joined(name: str, results: Iterable[SourceResult]) -> SourceResult:
    """Merge several results into one."""
    parts = tuple(results)
    return SourceResult(
        name,
        tuple(entry for part in parts for entry in part.entries),
        tuple(problem for part in parts for problem in part.problems),
        tuple(file for part in parts for file in part.files),
        tuple(origin for part in parts for origin in part.foreign),
    )


def is_text(value: str) -> bool:
    """Return whether a value is text: no NUL, and no bytes that could not be decoded."""
    return re.search(_NOT_TEXT, value) is None


def questionable(value: Hidden, origin: Origin) -> tuple[Problem, ...]:
    """Return warnings about parts of a value that were probably not meant to be part of it.

    Examples:
        >>> origin = Origin("environment", "ZILLIZ_TOKEN")
        >>> [problem.code for problem in questionable(Hidden(" ${{ secrets.TOKEN }}"), origin)]
        ['surrounding_space', 'placeholder']
    """
    bare = Hidden(value.strip())
    spaced = any(end.isspace() and end not in "\r\n" for end in (value[:1], value[-1:]))
    quoted = len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]
    # In a dotenv file `${NAME}` is replaced, unless it is in single quotes.
    is_literal = origin.source == "dotenv" and bare[:2] == "${" and bare[:3] != "${{"
    found = {
        _SURROUNDING_SPACE: spaced,
        _QUOTED: quoted,
        _COMMENT: " #" in value or "\t#" in value,
        _LITERAL if is_literal else _PLACEHOLDER: bare.startswith(("${", "$(", "<"))
        and bare.endswith(("}", ")", ">")),
    }
    return tuple(replace(problem, origin=origin) for problem, is_so in found.items() if is_so)
