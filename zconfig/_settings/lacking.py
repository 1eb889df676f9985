"""What an alias lacks, and where it may be: in a file that is not read, or whose name is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from zconfig._origin import Origin, printable
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
from zconfig._sources.base import DOUBTFUL, not_read
from zconfig.errors import Problem, Severity

# The last word of a file's name that is none of ours, and the field that it stands for.
_MEANT = dict.fromkeys(("credentials", "key", "milvus", "secret", "zilliz"), "token") | {
    "pass": "password",
    "passwd": "password",
}

_DID_YOU_MEAN = re.compile(r"did you mean (\w+)\?")
_PLACES = frozenset({"dotenv", "secrets directory", "service binding"})
# What is wrong with a setting whose value is right all the same.
_HARMLESS = frozenset({"credentials_in_the_clear", "group_writable", "readable_by_others"})


def lacking(
    settings: Mapping[str, ConnectionSettings], invalid: Iterable[Problem]
) -> tuple[str, ...]:
    """Return the aliases that have no URI, or no credentials where Zilliz Cloud wants some."""
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
    """Say whom it concerns that a file or directory cannot be read.

    Where nobody named it, as `.env` and `/run/secrets`, it may be somebody else's: an error of the
    aliases that lack something, which may be in it, and otherwise a warning.

    Args:
        places: For each layer, whether somebody named it, and what is wrong with it as a whole.
        aliases: Those that lack something.
        options: In strict mode it is an error all the same.
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
    """Return a problem with the remedy for /dev/null in the place of no dotenv file at all."""
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
    if origin.path is None:  # it is of the place as a whole
        problem = replace(problem, remedy=f"{problem.remedy}, or set {_without(origin, options)}")
    if options.strict:
        yield problem
    elif aliases and problem.code != "is_directory":  # a directory holds no settings
        yield from (replace(problem, alias=alias) for alias in aliases)
    else:
        yield replace(problem, severity="warning")


def _without(origin: Origin, options: LoaderOptions) -> str:
    """Return the option with which a customary place is not read."""
    if origin.source == "dotenv":
        return f"ZCONFIG_ENV_FILE={OFF}"
    return f"ZCONFIG_SECRETS_DIR={os.pathsep.join((*options.secrets_dir, OFF))}"


def misnamed_secrets(origins: Iterable[Origin], aliases: Collection[str]) -> Iterator[Problem]:
    """Name the files that no variable is called like, for an alias that lacks credentials.

    Args:
        origins: Where keys stand that are not ours.
        aliases: Those that lack credentials.
    """
    for origin in origins if aliases else ():
        field = _field_meant(origin.key) if origin.source == "secrets directory" else None
        if field:
            yield _misnamed(origin, _alias_meant(origin.key, aliases), field)


def unread_milvus(
    origins: Iterable[Origin], resolution: Resolution, *, strict: bool
) -> Iterator[Problem]:
    """Name `MILVUS_*` variables that are not read, for a field that `default` lacks.

    Args:
        origins: Where keys stand that may be such.
        resolution: What is set.
        strict: Whether it is an error rather than a warning.
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
            yield _unread(origin, word.field, name, "error" if strict else "warning")


# What people call a field, where no other field is near.
_OTHER_WORDS = {
    **dict.fromkeys(("database_name", "db"), "db_name"),
    **dict.fromkeys(("key", "secret"), "token"),
    **dict.fromkeys(("pass", "pwd"), "password"),
}


def other_words(
    origins: Iterable[Origin], resolution: Resolution, *, strict: bool
) -> Iterator[Problem]:
    """Name variables with another word for a field that their alias lacks; Milvus Lite has none.

    Args:
        origins: Where names stand that are no field's.
        resolution: What is set.
        strict: Whether it is an error rather than a warning.
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
                meant = variable_name(alias, field)
                yield _unread(origin, field, meant, "error" if strict else "warning", alias)


def _worded(key: str) -> Iterator[tuple[str, str]]:
    """Yield the alias and the field that a name may have been meant for."""
    name = normalize_alias(key)
    for word, field in _OTHER_WORDS.items():
        alias, is_it, _ = name.rpartition(f"_{word}")
        if is_it and name.endswith(f"_{word}"):
            yield alias.removeprefix("zilliz").removeprefix("_") or DEFAULT_ALIAS, field


def _unread(
    origin: Origin, field: str, meant: str, severity: Severity, alias: str = DEFAULT_ALIAS
) -> Problem:
    message = not_read(origin.key)
    origin = replace(origin, key=printable(origin.key))
    remedy = f"did you mean {meant}?"
    return Problem("unknown_name", message, remedy, alias, field, origin, severity)


def meant_for(alias: str, configuration: Configuration) -> tuple[Problem, ...]:
    """Return what is wrong with variables that were probably meant for an alias."""
    return tuple(e for e in configuration.problems if (n := _meant(e)) and n.alias == alias)


def doubtful_values(alias: str, configuration: Configuration) -> tuple[Problem, ...]:
    """Return the warnings of values of an alias that hold what was probably not meant."""
    own = (each for each in configuration.problems if each.alias == alias)
    return tuple(each for each in own if each.severity == "warning" and each.code in DOUBTFUL)


def unread_places(alias: str, configuration: Configuration) -> tuple[Problem, ...]:
    """Return what is wrong with places that may hold an alias which nothing configures.

    It lacks everything: what is a warning of nobody, or an error of other aliases, is one of its.
    """
    places = filter(is_of_place, configuration.problems)
    return tuple(dict.fromkeys(replace(e, alias=alias, severity="error") for e in places))


def hints(alias: str, configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield what may be wrong with the settings of an alias, each with its field."""
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
        e
        for e in configuration.notes
        if normalize_alias(e.origin.key) in PAIRED and not e.field_key
    )
    for note in unpaired if alias == DEFAULT_ALIAS else ():
        yield "token", f"{note.origin} {note.message}"


def _meant(problem: Problem) -> Name | None:
    """Return the variable that was probably meant."""
    variable = _DID_YOU_MEAN.fullmatch(problem.remedy)
    name = parse_name(variable[1]) if variable else None
    return name if isinstance(name, Name) else None


def is_of_place(problem: Problem) -> bool:
    """Tell whether a problem is of a file or directory as a whole, which may hold anything."""
    if problem.origin is None or problem.code in {"is_directory", *_HARMLESS}:
        return False
    is_place = problem.origin.source in _PLACES and problem.origin.path is None
    return is_place or problem.code in {"missing_file", "unknown_profile"}


def _misnamed(origin: Origin, alias: str, field: str) -> Problem:
    variable = variable_name(alias, field)
    return Problem(
        "misnamed_secret",
        "is no variable's name, and no credentials are set",
        f"call it {variable.lower()}, or set {variable}_FILE={origin.path}",
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
