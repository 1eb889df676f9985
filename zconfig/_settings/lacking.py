"""Find settings that an alias lacks: in unreadable files, or under misspelt names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from pydantic import SecretStr

from zconfig._origin import Origin, printable
from zconfig._redaction import Hidden
from zconfig._settings.configuration import Configuration
from zconfig._settings.fields import CREDENTIALS, ConnectionSettings, endpoint_of
from zconfig._settings.names import (
    DEFAULT_ALIAS,
    Name,
    milvus_meant,
    normalize_alias,
    parse_name,
    unset_name,
    variable_name,
)
from zconfig._settings.options import OFF, LoaderOptions
from zconfig._settings.precedence import PAIRED, Resolution
from zconfig._settings.validation import tls_remedy
from zconfig._sources.base import DOUBTFUL, Entry, not_read, questionable
from zconfig.errors import Problem, Severity

# The last word of an unknown file name, and the field that it probably means.
_MEANT = dict.fromkeys(("credentials", "key", "milvus", "secret", "zilliz"), "token") | {
    "pass": "password",
    "passwd": "password",
}

_DID_YOU_MEAN = re.compile(r"did you mean (\w+)\?")
_PLACES = frozenset({"dotenv", "secrets directory", "service binding"})
# Warnings about settings whose values are valid.
_HARMLESS = frozenset({"credentials_in_the_clear", "group_writable", "readable_by_others"})


def lacking(
    settings: Mapping[str, ConnectionSettings], invalid: Iterable[Problem]
) -> tuple[str, ...]:
    """Return the aliases without a URI, or without the credentials that Zilliz Cloud requires."""
    nowhere = (e.alias for e in invalid if e.code == "missing_uri" and e.severity == "error")
    refused = (
        alias
        for alias, each in settings.items()
        if endpoint_of(each).is_zilliz_cloud and not (each.token or each.password)
    )
    return (*refused, *filter(None, nowhere))


def judge_places(
    places: Iterable[tuple[bool, Iterable[Problem]]],
    aliases: Collection[str],
    options: LoaderOptions,
) -> list[Problem]:
    """Attribute the problems of unreadable files and directories to aliases.

    A default location, such as `.env` or `/run/secrets`, may belong to another application: the
    problem is an error of each alias that lacks settings, which may be there, and otherwise a
    warning.

    Args:
        places: For each layer, whether an option names it, and its problems as a whole.
        aliases: The aliases that lack settings.
        options: The loader's options; in strict mode every problem is an error.
    """
    return [
        judged
        for named, problems in places
        for problem in problems
        for judged in (
            [_of_a_device(problem, options)] if named else _of_nobody(problem, aliases, options)
        )
    ]


def _of_a_device(problem: Problem, options: LoaderOptions) -> Problem:
    """Extend the remedy of a device as dotenv file: /dev/null is meant to disable the file."""
    origin = problem.origin
    is_dotenv = origin is not None and origin.source == "dotenv"
    if not is_dotenv or problem.code != "not_regular" or len(options.env_file or ()) > 1:
        return problem
    return replace(problem, remedy=f"{problem.remedy}, or set ZCONFIG_ENV_FILE={OFF}")


def _of_nobody(
    problem: Problem, aliases: Collection[str], options: LoaderOptions
) -> Iterator[Problem]:
    origin = problem.origin
    if problem.severity != "error" or problem.alias or origin is None or origin.line:
        yield problem
        return
    if origin.path is None:  # the problem concerns the whole file or directory
        problem = replace(problem, remedy=f"{problem.remedy}, or set {_without(origin, options)}")
    if options.strict:
        yield problem
    elif aliases and problem.code != "is_directory":  # a directory holds no settings
        yield from (replace(problem, alias=alias) for alias in aliases)
    else:
        yield replace(problem, severity="warning")


def _without(origin: Origin, options: LoaderOptions) -> str:
    """Return the option that excludes a default location."""
    if origin.source == "dotenv":
        return f"ZCONFIG_ENV_FILE={OFF}"
    return f"ZCONFIG_SECRETS_DIR={os.pathsep.join((*options.secrets_dir, OFF))}"


def misnamed_secrets(origins: Iterable[Origin], aliases: Collection[str]) -> Iterator[Problem]:
    """Warn of files with unknown names, for an alias that lacks credentials.

    Args:
        origins: The origins of unknown keys.
        aliases: The aliases that lack credentials.
    """
    for origin in origins if aliases else ():
        field = _field_meant(origin.key) if origin.source == "secrets directory" else None
        if field:
            yield _misnamed(origin, _alias_meant(origin.key, aliases), field)


def unread_milvus(
    origins: Iterable[Origin], resolution: Resolution, *, strict: bool
) -> Iterator[Problem]:
    """Report `MILVUS_*` variables that are not read, for a field that `default` lacks.

    Args:
        origins: The origins of unknown keys.
        resolution: The resolved settings.
        strict: Whether the problem is an error instead of a warning.
    """
    uri = resolution.provenance.get((DEFAULT_ALIAS, "uri"))
    if uri is None:
        return
    has = {field for alias, field in resolution.provenance if alias == DEFAULT_ALIAS}
    for origin in origins:
        word = milvus_meant(origin.key)
        rivals = CREDENTIALS if word and word.field in CREDENTIALS else ("db_name",)
        if word and word.field in rivals and has.isdisjoint(rivals):
            beside = None if word.is_file else uri.origin
            name = unset_name(DEFAULT_ALIAS, word.field, beside) + "_FILE" * word.is_file
            remedy = f"did you mean {name}?"
            yield _unread(origin, word.field, remedy, "error" if strict else "warning")


# Other words for a field that are not misspellings of its name, such as pymilvus' parameters.
_OTHER_WORDS = {
    **dict.fromkeys(("database_name", "db"), "db_name"),
    **dict.fromkeys(("key", "secret"), "token"),
    **dict.fromkeys(("pass", "pwd"), "password"),
    **dict.fromkeys(("ca", "ca_cert", "ca_file", "ca_pem_path", "server_pem_path"), "tls_ca"),
    **dict.fromkeys(("client_cert", "client_pem_path"), "tls_cert"),
    **dict.fromkeys(("client_key", "client_key_path"), "tls_key"),
    **dict.fromkeys(("timeout_s", "timeout_sec", "timeout_seconds"), "timeout"),
    "proxy_url": "proxy",
    "server_name": "tls_server_name",
}


def other_words(
    origins: Iterable[Origin], resolution: Resolution, *, strict: bool
) -> Iterator[Problem]:
    """Report variables with another word for a field that their alias lacks.

    Milvus Lite has neither a database nor credentials.

    Args:
        origins: The origins of unknown names.
        resolution: The resolved settings.
        strict: Whether the problem is an error instead of a warning.
    """
    remote = {
        alias
        for (alias, field), each in resolution.provenance.items()
        if field == "uri" and not each.entry.value.reveal().endswith(".db")
    }
    for origin in origins if remote else ():
        for alias, field in _worded(origin.key):
            rivals = CREDENTIALS if field in CREDENTIALS else (field,)
            field_keys = {(alias, each) for each in rivals}
            if alias in remote and field_keys.isdisjoint(
                {*resolution.provenance, *resolution.broken}
            ):
                remedy = f"did you mean {variable_name(alias, field)}?"
                yield _unread(origin, field, remedy, "error" if strict else "warning", alias)


_TLS_SWITCHES = frozenset({"secure", "ssl", "tls"})
_ON = frozenset({"1", "on", "true", "yes"})


def unread_tls(
    entries: Iterable[Entry],
    settings: Mapping[str, ConnectionSettings],
    resolution: Resolution,
    *,
    strict: bool,
) -> Iterator[Problem]:
    """Report variables that switch on TLS, such as `ZILLIZ_SECURE`, for an alias without it.

    Args:
        entries: The entries of all sources.
        settings: The valid aliases.
        resolution: The resolved settings.
        strict: Whether the problem is an error instead of a warning.
    """
    for entry in entries:
        before, _, word = normalize_alias(entry.key).rpartition("_")
        if word in _TLS_SWITCHES and entry.value.reveal().strip().lower() in _ON:
            alias = _alias_before(before)
            if alias in settings and endpoint_of(settings[alias]).is_plaintext:
                uri = resolution.provenance[alias, "uri"].origin
                remedy = f"{tls_remedy(uri)}, or remove {entry.key}"
                yield _unread(entry.origin, "uri", remedy, "error" if strict else "warning", alias)


def _alias_before(before: str) -> str:
    """Return the alias of a name without its field."""
    return before.removeprefix("zilliz").removeprefix("_") or DEFAULT_ALIAS


def _worded(key: str) -> Iterator[tuple[str, str]]:
    """Yield the aliases and fields that a name may mean."""
    name = normalize_alias(key)
    for word, field in _OTHER_WORDS.items():
        alias, is_it, _ = name.rpartition(f"_{word}")
        if is_it and name.endswith(f"_{word}"):
            yield _alias_before(alias), field


def _unread(
    origin: Origin, field: str, remedy: str, severity: Severity, alias: str = DEFAULT_ALIAS
) -> Problem:
    message = not_read(origin.key)
    origin = replace(origin, key=printable(origin.key))
    return Problem("unknown_name", message, remedy, alias, field, origin, severity)


def meant_for(alias: str, configuration: Configuration) -> tuple[Problem, ...]:
    """Return the problems of variables that were probably meant for an alias."""
    return tuple(e for e in configuration.problems if (n := _meant(e)) and n.alias == alias)


def doubtful_values(alias: str, configuration: Configuration) -> tuple[Problem, ...]:
    """Return the warnings about values of an alias that were probably not meant."""
    own = (each for each in configuration.problems if each.alias == alias)
    return tuple(each for each in own if each.severity == "warning" and each.code in DOUBTFUL)


def unread_places(alias: str, configuration: Configuration) -> tuple[Problem, ...]:
    """Return the problems of files and directories that may contain an unconfigured alias.

    All of them are errors of this alias, even if they are warnings otherwise.
    """
    places = filter(is_of_place, configuration.problems)
    return tuple(dict.fromkeys(replace(e, alias=alias, severity="error") for e in places))


def hints(alias: str, configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield the possible problems with the settings of an alias, each with its field."""
    settings = configuration.aliases[alias]
    is_lacking = not (settings.token or settings.password)
    for each in configuration.problems:
        name, text = _meant(each), str(replace(each, alias=None))
        if name and name.alias == alias:
            yield name.word.field, text
        elif each.alias == alias and each.field and each.code not in _HARMLESS:
            yield each.field, text
        elif is_lacking and is_of_place(each):
            yield "token", text
    unpaired = (
        e for e in configuration.notes if normalize_alias(e.origin.key) in PAIRED and not e.slot
    )
    for note in unpaired if alias == DEFAULT_ALIAS else ():
        yield "token", f"{note.origin} {note.message}"


def hints_in_code(
    settings: ConnectionSettings, origins: Mapping[str, Origin]
) -> Iterator[tuple[str, str]]:
    """Yield the doubtful values of settings from code, each with its field."""
    for field, origin in origins.items():
        value = getattr(settings, field)
        text = Hidden(value.get_secret_value() if isinstance(value, SecretStr) else str(value))
        yield from ((field, str(each)) for each in questionable(text, origin))


def _meant(problem: Problem) -> Name | None:
    """Return the variable that was probably meant."""
    variable = _DID_YOU_MEAN.fullmatch(problem.remedy)
    name = parse_name(variable[1]) if variable else None
    return name if isinstance(name, Name) else None


def is_of_place(problem: Problem) -> bool:
    """Return whether a problem concerns a whole file or directory, with unknown content."""
    if problem.origin is None or problem.code in {"is_directory", *_HARMLESS}:
        return False
    is_place = problem.origin.source in _PLACES and problem.origin.path is None
    return is_place or problem.code in {"missing_file", "unknown_profile", "unused_profile"}


def _misnamed(origin: Origin, alias: str, field: str) -> Problem:
    variable = variable_name(alias, field)
    return Problem(
        "misnamed_secret",
        "is not the name of a variable, and no credentials are set",
        f"rename it to {variable.lower()}, or set {variable}_FILE={origin.path}",
        alias,
        field,
        origin,
        "warning",
    )


def _field_meant(name: str) -> str | None:
    parsed = parse_name(f"zilliz_{name}")
    if isinstance(parsed, Name):
        return parsed.word.field if parsed.word.field in CREDENTIALS else None
    return _MEANT.get(normalize_alias(name).rpartition("_")[2])


def _alias_meant(name: str, aliases: Collection[str]) -> str:
    named = next((each for each in aliases if f"_{each}_" in f"_{normalize_alias(name)}_"), None)
    return named or (DEFAULT_ALIAS if DEFAULT_ALIAS in aliases else next(iter(aliases)))
