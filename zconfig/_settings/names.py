"""Parse the names of variables into alias and field, and suggest names for unknown ones."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from zconfig._origin import Origin, printable
from zconfig._settings.fields import CREDENTIALS, ConnectionSettings, Variable
from zconfig._sources.base import MILVUS, not_read, oddities, plain
from zconfig._sources.environment import is_milvus

_LONG = 8


def nearest(text: str, words: Iterable[str]) -> str | None:
    """Return the word that a text is most likely a misspelling of, or `None`.

    Args:
        text: The text as written.
        words: The candidates: a word matches with one slip, or two if it is long.

    Examples:
        >>> nearest("pasword", ["uri", "token", "password"])
        'password'
        >>> nearest("cluster_name", ["db_name", "username"]) is None
        True
    """
    distances = ((_slips(text, word), word) for word in words if _may_be(text, word))
    best = min(distances, default=None)
    return best[1] if best and best[0] <= _tolerance(best[1]) else None


def _tolerance(word: str) -> int:
    return 2 if len(word) >= _LONG else 1


def _may_be(text: str, word: str) -> bool:
    """Exclude most pairs without counting: a slip changes at most two of the letters used."""
    slips = _tolerance(word)
    return abs(len(text) - len(word)) <= slips and len(set(text) ^ set(word)) <= 2 * slips


def _slips(one: str, other: str) -> int:
    """Count the inserted, missing, wrong and transposed letters between two words.

    This is the optimal string alignment distance, with a row for each letter of `one`.
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        row = [i + 1]
        for j, wanted in enumerate(other):
            slips = min(last[j + 1] + 1, row[j] + 1, last[j] + (letter != wanted))
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                slips = min(slips, before[j - 1] + 1)
            row.append(slips)
        before, last = last, row
    return last[-1]


PREFIX = "zilliz_"
DEFAULT_ALIAS = "default"

CONTROL_PLANE_KEY = "zilliz_api_key"
"""A token of `default`, folded, that other tools of Zilliz use for the control plane."""

# Patterns are compiled when a name needs them, which is rare.
_ALIAS = r"[a-z0-9]+(?:_[a-z0-9]+)*"
# The variables that Kubernetes sets in every container of a namespace for a Service of that name.
# The name of a port is arbitrary, and may be that of a field.
_SERVICE_LINK = (
    r"(?:.+_)?(?:service_(?:host|port)|port(?:_\d+_(?:tcp|udp|sctp)(?:_(?:proto|port|addr))?)?)"
)
_NAMED_PORT = "_service_port_"

# ZILLIZ_TLS_CA_FILE: suffixes that users append to the name of a field with a file or its path.
_TAILS = frozenset({"bundle", "cert", "certs", "crt", "file", "path", "pem"})

# ZILLIZ_API_TOKEN, ZILLIZ_DB_PASSWORD: words that users and other tools put before credentials.
_SAYING_LITTLE = frozenset(
    {DEFAULT_ALIAS, "access", "api", "auth", "cloud", "cluster", "db", "milvus"}
)


class Spelling(NamedTuple):
    """One spelling of a field, e.g. `api_key_file`: the field `token`, in its `_FILE` form."""

    field: str
    is_file: bool


class Name(NamedTuple):
    """A valid name."""

    alias: str
    word: Spelling


class InvalidName(NamedTuple):
    """An invalid name.

    Args:
        code: `unknown_name`, `reserved_alias` or `bad_alias`.
        message: The problem.
        suggestion: The variable that was probably meant; `None` if none is similar.
        alias: The invalid alias; `None` if the name as a whole is unknown.
    """

    code: str
    message: str
    suggestion: str | None = None
    alias: str | None = None


def _vocabulary() -> dict[str, Spelling]:
    words: dict[str, Spelling] = {}
    for field in ConnectionSettings.model_fields:
        variable = Variable.of(ConnectionSettings, field)
        for spelling in (field, *variable.synonyms):
            words[spelling] = Spelling(field, is_file=False)
            if variable.file_form:
                words[f"{spelling}_file"] = Spelling(field, is_file=True)
    return words


VOCABULARY = _vocabulary()
_LONGEST = max(word.count("_") for word in VOCABULARY) + 1


def normalize_alias(text: str) -> str:
    """Return a key or an alias in its folded form, for comparison.

    Examples:
        >>> normalize_alias("EU-Prod.x")
        'eu_prod_x'
    """
    return text.lower().replace("-", "_").replace(".", "_")


def is_ours(key: str) -> bool:
    """Return whether a name begins with `ZILLIZ_` in any spelling."""
    return normalize_alias(key).startswith(PREFIX)


def parse_name(key: str) -> Name | InvalidName | None:
    """Split a variable's name into alias and field.

    Args:
        key: The name as written.

    Returns:
        The valid or invalid name; `None` if it does not begin with `ZILLIZ_` in any case, or is a
        Kubernetes service link.

    Examples:
        >>> parse_name("ZILLIZ_EU_PROD_DB_NAME")
        Name(alias='eu_prod', word=Spelling(field='db_name', is_file=False))
        >>> parse_name("ZILLIZ_URI").alias
        'default'
        >>> parse_name("ZILLIZ_PROD_TOKNE").suggestion
        'ZILLIZ_PROD_TOKEN'
        >>> parse_name("ZILLIZ_PROD_SERVICE_HOST") is None
        True
    """
    return _misspelt(key) if oddities(key) else _parsed(key)


def _parsed(key: str) -> Name | InvalidName | None:
    folded = normalize_alias(key)
    rest = folded[len(PREFIX) :]
    if not folded.startswith(PREFIX) or _NAMED_PORT in f"_{rest}":
        return None
    parts = rest.split("_")
    # The shortest tail that is a field is also the longest: no field ends in another.
    for start in reversed(range(max(0, len(parts) - _LONGEST), len(parts))):
        word = VOCABULARY.get("_".join(parts[start:]))
        if word:
            return _with_alias("_".join(parts[:start]), word, bare=start == 0)
    if re.fullmatch(_SERVICE_LINK, rest):
        return None
    suggestion = _without_tail(parts) or _nearest(parts)
    return InvalidName("unknown_name", "is not a known name", suggestion)


def _misspelt(key: str) -> InvalidName | None:
    found = _parsed(plain(key))
    if isinstance(found, InvalidName):
        alias = found.alias and printable(found.alias)
        return found._replace(message=not_read(key), alias=alias)
    meant = normalize_alias(plain(key)).upper()
    return found and InvalidName("unknown_name", not_read(key), meant)


def _with_alias(alias: str, word: Spelling, *, bare: bool) -> Name | InvalidName:
    if bare:
        return Name(DEFAULT_ALIAS, word)
    complaint = check_alias(alias)
    if complaint is None:
        return Name(alias, word)
    single = "_".join(filter(None, alias.split("_"))) or DEFAULT_ALIAS
    if single == alias or check_alias(single):
        return complaint
    return complaint._replace(suggestion=variable_name(single, _spelling(word)))


def check_alias(alias: str) -> InvalidName | None:
    """Return the problem of an alias in its folded form, or `None`.

    Examples:
        >>> check_alias("token").code
        'reserved_alias'
        >>> check_alias("eu_prod") is None
        True
    """
    if alias in VOCABULARY:
        message = f"`{alias}` is the name of a field, and cannot be an alias"
        return InvalidName("reserved_alias", message, alias=alias)
    if _NAMED_PORT in f"_{alias}_":
        message = f"`{alias}` is a name that Kubernetes uses for the port of a service"
        return InvalidName("reserved_alias", message, alias=alias)
    if not re.fullmatch(_ALIAS, alias):
        message = "the alias does not consist of letters, digits and single underscores"
        return InvalidName("bad_alias", message, alias=alias)
    return None


def is_generic(alias: str) -> bool:
    """Return whether an alias may be a word before the field of another connection.

    Examples:
        >>> is_generic("api"), is_generic("default"), is_generic("prod")
        (True, True, False)
    """
    return alias in _SAYING_LITTLE


def variable_name(alias: str, field: str) -> str:
    """Return the variable that declares a field of an alias.

    Examples:
        >>> variable_name("default", "uri"), variable_name("eu_prod", "token")
        ('ZILLIZ_URI', 'ZILLIZ_EU_PROD_TOKEN')
    """
    stem = field if alias == DEFAULT_ALIAS else f"{alias}_{field}"
    return (PREFIX + stem).upper()


def unset_name(alias: str, field: str, beside: Origin | None) -> str:
    """Return the variable or parameter to set for an unset field, to be named in a remedy.

    Args:
        alias: The name of the connection.
        field: The field.
        beside: The origin of another field of the connection.

    Examples:
        >>> unset_name("prod", "password", Origin("dotenv", "ZILLIZ_PROD_USER", ".env", 1))
        'ZILLIZ_PROD_PASSWORD'
        >>> unset_name("prod", "password", Origin("code", "user", "connections.connect"))
        'the parameter password'
    """
    if beside is not None and beside.source == "code":
        within = "settings." if beside.key.startswith("settings.") else ""
        return f"the parameter {within}{field}"
    is_pair = beside is not None and is_milvus(beside.key) and field in CREDENTIALS
    return f"MILVUS_{field.upper()}" if is_pair else variable_name(alias, field)


def prefix_meant(key: str) -> str | None:
    """Return the variable that a name with a misspelt prefix means, or `None`.

    Only a name that is valid after the right prefix counts: others belong to other programs.

    Examples:
        >>> prefix_meant("ZILIZ_PROD_URI")
        'ZILLIZ_PROD_URI'
        >>> prefix_meant("ZILLIZ_URI"), prefix_meant("SILLY_URI"), prefix_meant("ZILIZ_HOME")
        (None, None, None)
    """
    meant = PREFIX + (behind_misspelt(PREFIX, key) or "")
    return meant.upper() if isinstance(parse_name(meant), Name) else None


def behind_misspelt(prefix: str, key: str) -> str | None:
    """Return the part of a folded name after its misspelt prefix, or `None`."""
    written, _, rest = normalize_alias(plain(key)).partition("_")
    right = prefix.removesuffix("_")
    return rest if written != right and nearest(written, [right]) else None


def milvus_meant(key: str) -> Spelling | None:
    """Return the field that an unread `MILVUS_*` variable means, or `None`.

    Examples:
        >>> milvus_meant("MILVUS_API_KEY"), milvus_meant("MILVUS_TOKEN")
        (Spelling(field='token', is_file=False), None)
    """
    name = plain(key)
    if not is_milvus(name) or key in MILVUS:
        return None
    found = parse_name(PREFIX + name.partition("_")[2])
    if isinstance(found, InvalidName) and found.suggestion:
        found = parse_name(found.suggestion)
    return found.word if isinstance(found, Name) and is_generic(found.alias) else None


def _without_tail(parts: list[str]) -> str | None:
    """Return the variable that a name is with a suffix appended, in its `_FILE` form if any."""
    *stem, tail = parts
    name = parse_name(f"{PREFIX}{'_'.join(stem)}") if tail in _TAILS else None
    if not isinstance(name, Name):
        return None
    in_file = Spelling(name.word.field, is_file=True)
    word = in_file if in_file in VOCABULARY.values() else name.word
    return variable_name(name.alias, _spelling(word))


def _spelling(word: Spelling) -> str:
    return f"{word.field}_file" if word.is_file else word.field


def _nearest(parts: list[str]) -> str | None:
    """Return the name that was probably meant, by comparing each tail with every field."""
    for start in range(max(0, len(parts) - _LONGEST), len(parts)):
        alias, word = "_".join(parts[:start]), nearest("_".join(parts[start:]), VOCABULARY)
        if word and not (start and check_alias(alias)):
            return variable_name(alias if start else DEFAULT_ALIAS, word)
    return None
