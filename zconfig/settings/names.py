"""The name of a variable: alias and field, and back.

`ZILLIZ_<ALIAS>_<FIELD>` declares one field of one alias, `ZILLIZ_<FIELD>` of the alias
`default`. A name is split at the longest known field; the fields are a suffix code (none is
another's `_` suffix), so there is only one way to split, and a new field can never change the
meaning of a name that was valid before.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from zconfig.origin import Origin
from zconfig.settings.fields import CREDENTIALS, ConnectionSettings, Variable
from zconfig.settings.spelling import nearest
from zconfig.sources.milvus_env import is_milvus
from zconfig.sources.names import MILVUS, oddities, plain

PREFIX = "zilliz_"
DEFAULT_ALIAS = "default"

CONTROL_PLANE_KEY = "zilliz_api_key"
"""A token of `default`, folded, that other tools of Zilliz read for the control plane."""

# Patterns are compiled when a name needs them: most have no use for them.
_ALIAS = r"[a-z0-9]+(?:_[a-z0-9]+)*"
# What Kubernetes injects into every container of a namespace for a Service of that name. A port
# has a name of its own choice, which may be that of a field.
_SERVICE_LINK = (
    r"(?:.+_)?(?:service_(?:host|port)|port(?:_\d+_(?:tcp|udp|sctp)(?:_(?:proto|port|addr))?)?)"
)
_NAMED_PORT = "_service_port_"

# ZILLIZ_TLS_CA_FILE: what people add to the name of a field whose value is a file, or its path.
_TAILS = frozenset({"bundle", "cert", "file", "path", "pem"})

# ZILLIZ_API_TOKEN, ZILLIZ_DB_PASSWORD: names that people and other tools have for credentials.
_SAYING_LITTLE = frozenset(
    {DEFAULT_ALIAS, "access", "api", "auth", "cloud", "cluster", "db", "milvus"}
)


class Word(NamedTuple):
    """One spelling of a field, e.g. `api_key_file`: the field `token`, in its `_FILE` form."""

    field: str
    is_file: bool


class Name(NamedTuple):
    """A name that was understood."""

    alias: str
    word: Word


class Misnomer(NamedTuple):
    """A name that was not.

    Args:
        code: `unknown_name`, `reserved_alias` or `bad_alias`.
        message: What is wrong with it.
        suggestion: The variable that was probably meant; `None` if nothing is near.
        alias: The alias that cannot be one; `None` if the name as a whole is unknown.
    """

    code: str
    message: str
    suggestion: str | None = None
    alias: str | None = None


def _vocabulary() -> dict[str, Word]:
    words: dict[str, Word] = {}
    for field in ConnectionSettings.model_fields:
        variable = Variable.of(ConnectionSettings, field)
        for spelling in (field, *variable.synonyms):
            words[spelling] = Word(field, is_file=False)
            if variable.file_form:
                words[f"{spelling}_file"] = Word(field, is_file=True)
    return words


VOCABULARY = _vocabulary()
_LONGEST = max(word.count("_") for word in VOCABULARY) + 1


def fold(text: str) -> str:
    """Return a key or an alias in the one form that is compared.

    Example:
        >>> fold("EU-Prod.x")
        'eu_prod_x'
    """
    return text.lower().replace("-", "_").replace(".", "_")


def is_ours(key: str) -> bool:
    """Tell whether a name begins with `ZILLIZ_` in any spelling."""
    return fold(key).startswith(PREFIX)


def parse_name(key: str) -> Name | Misnomer | None:
    """Split a variable's name into alias and field.

    Args:
        key: The name as written.

    Returns:
        The name; what is wrong with it; or `None` if it does not begin with `ZILLIZ_` in any
        case, or is a Kubernetes service link.

    Example:
        >>> parse_name("ZILLIZ_EU_PROD_DB_NAME")
        Name(alias='eu_prod', word=Word(field='db_name', is_file=False))
        >>> parse_name("ZILLIZ_URI").alias
        'default'
        >>> parse_name("ZILLIZ_PROD_TOKNE").suggestion
        'ZILLIZ_PROD_TOKEN'
        >>> parse_name("ZILLIZ_PROD_SERVICE_HOST") is None
        True
    """
    if odd := oddities(key):
        return _misspelt(parse_name(plain(key)), plain(key), odd)
    folded = fold(key)
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
    return Misnomer("unknown_name", "is not a known name", suggestion)


def _misspelt(name: Name | Misnomer | None, key: str, odd: str) -> Misnomer | None:
    meant = name.suggestion if isinstance(name, Misnomer) else fold(key).upper()
    return name and Misnomer("unknown_name", f"is not read: its name has {odd} in it", meant)


def _with_alias(alias: str, word: Word, *, bare: bool) -> Name | Misnomer:
    if bare:
        return Name(DEFAULT_ALIAS, word)
    complaint = check_alias(alias)
    if complaint is None:
        return Name(alias, word)
    single = "_".join(filter(None, alias.split("_"))) or DEFAULT_ALIAS
    if single == alias or check_alias(single):
        return complaint
    return complaint._replace(suggestion=variable_name(single, _spelling(word)))


def check_alias(alias: str) -> Misnomer | None:
    """Return what is wrong with an alias in its folded form, or `None`.

    Example:
        >>> check_alias("token").code
        'reserved_alias'
        >>> check_alias("eu_prod") is None
        True
    """
    if alias in VOCABULARY:
        message = f"`{alias}` is a field, and cannot be an alias"
        return Misnomer("reserved_alias", message, alias=alias)
    if _NAMED_PORT in f"_{alias}_":
        message = f"`{alias}` is what Kubernetes names the port of a service"
        return Misnomer("reserved_alias", message, alias=alias)
    if not re.fullmatch(_ALIAS, alias):
        message = "the alias is not made of letters, digits and single underscores"
        return Misnomer("bad_alias", message, alias=alias)
    return None


def says_little(alias: str) -> bool:
    """Tell whether an alias may be part of somebody's name for a field of another connection.

    Example:
        >>> says_little("api"), says_little("default"), says_little("prod")
        (True, True, False)
    """
    return alias in _SAYING_LITTLE


def variable_name(alias: str, field: str) -> str:
    """Return the variable that declares a field of an alias.

    Example:
        >>> variable_name("default", "uri"), variable_name("eu_prod", "token")
        ('ZILLIZ_URI', 'ZILLIZ_EU_PROD_TOKEN')
    """
    stem = field if alias == DEFAULT_ALIAS else f"{alias}_{field}"
    return (PREFIX + stem).upper()


def unset_name(alias: str, field: str, beside: Origin | None) -> str:
    """Return the variable or parameter to set for a field that is not, as a remedy names it.

    Args:
        alias: The connection's name.
        field: The field.
        beside: Where another field of it is set.

    Example:
        >>> unset_name("prod", "password", Origin("dotenv", "ZILLIZ_PROD_USER", ".env", 1))
        'ZILLIZ_PROD_PASSWORD'
        >>> unset_name("prod", "password", Origin("code", "user", "connections.connect"))
        'the parameter password'
    """
    if beside is not None and beside.source == "code":
        return f"the parameter {field}"
    is_pair = beside is not None and is_milvus(beside.key) and field in CREDENTIALS
    return f"MILVUS_{field.upper()}" if is_pair else variable_name(alias, field)


def prefix_meant(key: str) -> str | None:
    """Return the variable that was meant by one whose prefix is misspelt, or `None`.

    Only a name that would be understood behind the right prefix counts: others are foreign.

    Example:
        >>> prefix_meant("ZILIZ_PROD_URI")
        'ZILLIZ_PROD_URI'
        >>> prefix_meant("ZILLIZ_URI"), prefix_meant("SILLY_URI"), prefix_meant("ZILIZ_HOME")
        (None, None, None)
    """
    prefix, _, rest = fold(plain(key)).partition("_")
    right = PREFIX.removesuffix("_")
    if prefix == right or not rest or nearest(prefix, [right]) is None:
        return None
    meant = PREFIX + rest
    return meant.upper() if isinstance(parse_name(meant), Name) else None


def milvus_meant(key: str) -> Word | None:
    """Return the field that a `MILVUS_*` variable which is not read was meant for, or `None`.

    Example:
        >>> milvus_meant("MILVUS_API_KEY"), milvus_meant("MILVUS_TOKEN")
        (Word(field='token', is_file=False), None)
    """
    name = plain(key)
    if not is_milvus(name) or key in MILVUS:
        return None
    found = parse_name(PREFIX + name.partition("_")[2])
    if isinstance(found, Misnomer) and found.suggestion:
        found = parse_name(found.suggestion)
    return found.word if isinstance(found, Name) and says_little(found.alias) else None


def _without_tail(parts: list[str]) -> str | None:
    """Return the variable that a name is with a tail of its own, in its `_FILE` form if any."""
    *stem, tail = parts
    name = parse_name(f"{PREFIX}{'_'.join(stem)}") if tail in _TAILS else None
    if not isinstance(name, Name):
        return None
    in_file = Word(name.word.field, is_file=True)
    word = in_file if in_file in VOCABULARY.values() else name.word
    return variable_name(name.alias, _spelling(word))


def _spelling(word: Word) -> str:
    return f"{word.field}_file" if word.is_file else word.field


def _nearest(parts: list[str]) -> str | None:
    """Return the name that was probably meant, comparing each tail with every field."""
    for start in range(max(0, len(parts) - _LONGEST), len(parts)):
        alias, word = "_".join(parts[:start]), nearest("_".join(parts[start:]), VOCABULARY)
        if word and not (start and check_alias(alias)):
            return variable_name(alias if start else DEFAULT_ALIAS, word)
    return None
