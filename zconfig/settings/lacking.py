"""What an alias lacks, and where it may be: in a file that is not read, or whose name is wrong."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from zconfig.errors import Problem
from zconfig.origin import Origin
from zconfig.settings.configuration import Configuration
from zconfig.settings.fields import CREDENTIALS, ConnectionSettings
from zconfig.settings.names import DEFAULT_ALIAS, Name, fold, parse_name, variable_name
from zconfig.settings.options import OFF, LoaderOptions
from zconfig.settings.precedence import PAIRED

# The last word of a file's name that is none of ours, and the field that it stands for.
_MEANT = dict.fromkeys(("credentials", "key", "milvus", "secret", "zilliz"), "token") | {
    "pass": "password",
    "passwd": "password",
}


def lacking(
    settings: Mapping[str, ConnectionSettings], invalid: Iterable[Problem]
) -> tuple[str, ...]:
    """Return the aliases that have no URI, or no credentials where Zilliz Cloud wants some."""
    nowhere = (e.alias for e in invalid if e.code == "missing_uri" and e.severity == "error")
    refused = (
        alias
        for alias, each in settings.items()
        if each.uri.is_zilliz_cloud and not (each.token or each.password)
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
        for judged in ([problem] if named else _of_nobody(problem, aliases, options))
    ]


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


def credentials_hint(alias: str, configuration: Configuration) -> str:
    """Return where the credentials may be that an alias lacks, or an empty text."""
    meant = {f"did you mean {variable_name(alias, field)}?" for field in CREDENTIALS}
    hints = [
        f"{each.origin} is no variable's name: {each.remedy}"
        for each in configuration.problems
        if each.alias == alias and each.code == "misnamed_secret"
    ]
    hints += [
        f"{each.origin} is of the alias {each.alias}: {each.remedy}"
        for each in configuration.problems
        if each.code == "missing_uri" and each.remedy in meant
    ]
    if alias == DEFAULT_ALIAS:
        unpaired = (e for e in configuration.notes if fold(e.origin.key) in PAIRED)
        hints += [f"{each.origin} {each.message}" for each in unpaired if not each.slot]
    return "; ".join(hints)


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
    return _MEANT.get(fold(name).rpartition("_")[2])


def _alias_meant(name: str, aliases: Collection[str]) -> str:
    named = next((each for each in aliases if f"_{each}_" in f"_{fold(name)}_"), None)
    return named or (DEFAULT_ALIAS if DEFAULT_ALIAS in aliases else next(iter(aliases)))
