"""Read every source, and merge them into one configuration. Problems are returned, not raised."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zconfig._endpoint import exempting
from zconfig._origin import Origin, anchored, printable
from zconfig._redaction import Hidden, Secret
from zconfig._settings.configuration import EMPTY, Configuration, Note
from zconfig._settings.fields import ConnectionSettings, endpoint_of
from zconfig._settings.lacking import (
    judge_places,
    lacking,
    misnamed_secrets,
    other_words,
    unread_milvus,
    unread_tls,
)
from zconfig._settings.names import (
    DEFAULT_ALIAS,
    VOCABULARY,
    Name,
    parse_name,
    prefix_meant,
    variable_name,
)
from zconfig._settings.options import (
    LoaderOptions,
    OptionsRead,
    option_meant,
    options_too_late,
    read_options,
)
from zconfig._settings.orphan_credentials import lacking_credentials, soften_orphans, unpaired_notes
from zconfig._settings.precedence import Resolution, group, resolve_layers
from zconfig._settings.validation import sent_in_the_clear, validate
from zconfig._sources.base import (
    Entry,
    SourceResult,
    absent,
    failed_at,
    guarded,
    not_read,
    questionable,
)
from zconfig._sources.environment import is_unread_place, read_environment, split_milvus
from zconfig.errors import Problem, Severity

# The other sources are imported by the functions that read them: most applications are configured
# only by the environment, and need not import the rest.

SYSTEM_SECRETS = "/run/secrets"


def load(  # noqa: PLR0913 - one parameter per input
    environ: Mapping[str, str],
    directory: Path,
    *,
    given: Mapping[str, Any] | None = None,
    system_secrets: str = SYSTEM_SECRETS,
    remote: bool = True,
    known: Sequence[SourceResult] = (),
) -> Configuration:
    """Read the configuration from all of its sources.

    Args:
        environ: The process environment.
        directory: The directory of `.env` files, whose parents are not searched, and of relative
            paths.
        given: Options of the command line, above all sources, e.g. `{"profile": "ci"}`.
        system_secrets: The default directory of secrets, which is read if it exists.
        remote: Whether to read secret managers and plugins, too, which may use the network.
        known: Results of secret managers and plugins to reuse instead of reading them.

    Returns:
        The configuration with all of its problems; none of them is raised.

    Examples:
        >>> from pathlib import Path
        >>> config = load({"ZILLIZ_URI": "http://localhost:19530"}, Path("nowhere"))
        >>> config.aliases["default"].uri
        'http://localhost:19530'
    """
    started = time.perf_counter()
    given = given or {}
    process = Origin("process", "environment")
    environment = _guarded(process, read_environment, environ)
    early = read_options(environment.entries, given)
    near = [environment, *_read_dotenvs(environ, directory, early)]
    results, milvus = map(list, zip(*map(split_milvus, near), strict=True))
    read = read_options((e for r in results for e in r.entries), given)
    results += _read_others(environ, directory, read, system_secrets, results)
    from_afar = _read_remote(environ, read.options, known) if remote else ()
    results += (*from_afar, *milvus)
    late = options_too_late(e for r in from_afar for e in r.entries)
    misspelt = _misspelt(environ, results, strict=read.options.strict)
    read = read._replace(problems=(*read.problems, *late, *misspelt))
    configuration = _assemble(results, read, environ, directory, started)
    return replace(configuration, remote=from_afar)


def _guarded(
    origin: Origin, read: Callable[..., SourceResult], *args: Any, **kwargs: Any
) -> SourceResult:
    return guarded(partial(read, *args, **kwargs), partial(failed_at, origin))


def _read_dotenvs(
    environ: Mapping[str, str], directory: Path, read: OptionsRead
) -> Iterable[SourceResult]:
    """Read the dotenv files, highest precedence first; a file that an option names must exist."""
    files, is_named = read.options.dotenv_files, read.options.env_file is not None
    results = [_read_dotenv(directory, name, environ, named=is_named) for name in files]
    if is_named:
        return [_expected(each, read.origins["env_file"]) for each in results]
    return _with_profile(results, read) if read.options.profile else results


def _read_dotenv(
    directory: Path, name: str, environ: Mapping[str, str], *, named: bool = True
) -> SourceResult:
    path = Path(anchored(name, directory))
    if _is_absent(path):
        return absent(name)
    from zconfig._sources.dotenv import read_dotenv

    origin = Origin("dotenv", name)
    result = _guarded(origin, read_dotenv, path, environ, shown=name, named=named)
    return result._replace(named=named)


def _is_absent(path: Path) -> bool:
    """Return whether a path does not exist; its reader reports any other problem."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _with_profile(results: Sequence[SourceResult], read: OptionsRead) -> Iterable[SourceResult]:
    """Warn of a profile without files: it may be misspelt."""
    local, _, shared, _ = results
    if all(seen.state == "absent" for result in (local, shared) for seen in result.files):
        problem = Problem(
            "unknown_profile",
            f"names a profile without files: neither {shared.name} nor {local.name} exists",
            "correct the profile, or create one of these files",
            origin=read.origins["profile"],
            severity="warning",
        )
        local = local._replace(problems=(*local.problems, problem))
    return (local, *results[1:])


def _read_others(
    environ: Mapping[str, str],
    directory: Path,
    read: OptionsRead,
    system_secrets: str,
    above: Iterable[SourceResult],
) -> Iterable[SourceResult]:
    aliases = _aliases_in(above)
    for name in read.options.secrets_dirs:
        origin = read.origins["secrets_dir"]
        yield _expected(_read_secrets(directory, name, aliases, named=True), origin)
    if not read.options.system_secrets_are_off:
        yield _read_secrets(directory, system_secrets, aliases, named=False)
    root = str(environ.get("SERVICE_BINDING_ROOT", ""))
    if root:
        from zconfig._sources.service_binding import read_service_bindings

        option = Origin("environment", "SERVICE_BINDING_ROOT")
        path = anchored(root, directory)
        binding = Origin("service binding", root)
        result = _guarded(binding, read_service_bindings, path, aliases=aliases, shown=root)
        yield _expected(result, option, severity="warning")


def _aliases_in(results: Iterable[SourceResult]) -> frozenset[str]:
    names = (parse_name(entry.key) for result in results for entry in result.entries)
    return frozenset({DEFAULT_ALIAS, *(name.alias for name in names if isinstance(name, Name))})


def _read_secrets(
    directory: Path, name: str, aliases: frozenset[str], *, named: bool
) -> SourceResult:
    path = Path(anchored(name, directory))
    if _is_absent(path):
        return absent(name)
    from zconfig._sources.secrets_dir import read_secrets_dir

    origin, fields = Origin("secrets directory", name), frozenset(VOCABULARY)
    arguments = {"field_names": fields, "aliases": aliases, "named": named, "shown": name}
    return _guarded(origin, read_secrets_dir, path, **arguments)._replace(named=named)


def has_remote(options: LoaderOptions) -> bool:
    """Return whether any source may use the network."""
    if options.secret_managers:
        return True
    from zconfig._sources.remote import has_plugins

    return has_plugins()


def _read_remote(
    environ: Mapping[str, str], options: LoaderOptions, known: Sequence[SourceResult]
) -> tuple[SourceResult, ...]:
    from zconfig._sources.remote import manager_readings, plugin_readings

    managers = manager_readings(options.secret_managers, known)
    return (*managers, *plugin_readings(environ, known))


def _expected(result: SourceResult, option: Origin, severity: Severity = "error") -> SourceResult:
    """Report a named file or directory that does not exist."""
    absent = [seen.path for seen in result.files if seen.state == "absent"]
    complaints = tuple(
        Problem(
            "missing_file",
            "names a path that does not exist",
            "correct the path, or create it",
            origin=replace(option, via=path),
            severity=severity,
        )
        for path in absent
    )
    return result._replace(problems=result.problems + complaints)


def _misspelt(
    environ: Mapping[str, str], results: Iterable[SourceResult], *, strict: bool
) -> Iterable[Problem]:
    """Report variables that are not read because their prefix is misspelt."""
    in_environment = (Origin("environment", key) for key in environ)
    in_files = (origin for result in results for origin in result.foreign)
    for origin in chain(in_environment, in_files):
        meant = prefix_meant(origin.key) or option_meant(origin.key)
        if meant and meant not in environ:
            yield Problem(
                "misspelt_prefix",
                not_read(origin.key),
                f"did you mean {meant}?",
                origin=replace(origin, key=printable(origin.key)),
                severity="error" if strict else "warning",
            )


def _assemble(
    results: list[SourceResult],
    read: OptionsRead,
    environ: Mapping[str, str],
    directory: Path,
    started: float,
) -> Configuration:
    strict = read.options.strict
    grouped = [(each.named, *group(each, strict=strict)) for each in results]
    read_file = partial(_read_named_file, directory)
    resolution = resolve_layers((layer for _, layer, _ in grouped), read_file, strict=strict)
    empty = (Note(origin, EMPTY, field_key) for field_key, origin in resolution.empty)
    passed_over = (Note(*each) for _, layer, _ in grouped for each in layer.passed_over)
    settings, invalid = validate(resolution)
    judged = soften_orphans(invalid, resolution, strict=strict)
    places = ((named, problems) for named, _, problems in grouped)
    general = judge_places(places, lacking(settings, judged), read.options)
    keys = _judge_keys(settings, resolution, directory)
    found = [*read.problems, *general, *resolution.problems, *judged, *keys]
    blamed = {problem.alias for problem in general if problem.severity == "error"}
    known = {alias for alias, _ in (*resolution.provenance, *resolution.broken)}
    found += _check_default(read, known)
    found += _in_the_clear(settings, resolution)
    foreign = (origin for result in results for origin in result.foreign)
    unread = [origin for _, layer, _ in grouped for origin, _ in layer.passed_over]
    found += misnamed_secrets(chain(foreign, unread), lacking_credentials(resolution))
    unknown = chain(
        (Origin("environment", key) for key, value in environ.items() if value),
        (origin for r in results for origin in r.foreign if origin.source == "dotenv"),
    )
    found += other_words(unread, resolution, strict=strict)
    found += unread_milvus(unknown, resolution, strict=strict)
    entries = (entry for result in results for entry in result.entries)
    found += unread_tls(entries, settings, resolution, strict=strict)
    found += _exempt_proxies(settings, resolution, environ)
    return Configuration(
        aliases=MappingProxyType({a: each for a, each in settings.items() if a not in blamed}),
        problems=tuple(found),
        provenance=MappingProxyType(dict(resolution.provenance)),
        files=tuple(seen for r in results for seen in r.files),
        notes=(*empty, *unpaired_notes(resolution), *passed_over),
        options=read.options,
        optional=_optional(resolution),
        secrets=resolution.secrets,
        passed_over=MappingProxyType(dict(resolution.passed_over)),
        elapsed_ms=(time.perf_counter() - started) * 1e3,
        directory=directory,
        unread=() if settings else tuple(filter(_is_unread, _places(results, environ))),
    )


def _in_the_clear(
    settings: Mapping[str, ConnectionSettings], resolution: Resolution
) -> Iterable[Problem]:
    for alias, each in settings.items():
        endpoint = endpoint_of(each)
        if endpoint.is_exposed and (each.token or each.password):
            origin = resolution.provenance[alias, "uri"].origin
            yield sent_in_the_clear(alias, endpoint.host, origin)


def _exempt_proxies(
    settings: Mapping[str, ConnectionSettings], resolution: Resolution, environ: Mapping[str, str]
) -> Iterable[Problem]:
    """Warn of proxies that gRPC does not use: their host is exempt, or the server is local."""
    for alias, each in settings.items():
        if each.proxy is None or each.proxy.get_secret_value() == "off":
            continue
        origin, host = resolution.provenance[alias, "proxy"].origin, endpoint_of(each).host
        variable = exempting(host, environ) if host else None
        if variable:
            what = f"is not used: {variable} exempts {host} from proxies"
            remedy = f"remove the host from {variable}, or remove {origin.key}"
        elif not host:
            uri = resolution.provenance[alias, "uri"].origin
            what, remedy = f"is not used: {uri} is a path", f"remove {origin.key}"
        else:
            continue
        yield Problem("exempt_proxy", what, remedy, alias, "proxy", origin, "warning")


def _judge_keys(
    settings: Mapping[str, ConnectionSettings], resolution: Resolution, directory: Path
) -> Iterable[Problem]:
    """Warn of private keys that others can read; a connect reports their other problems."""
    for alias, path in ((alias, each.tls_key) for alias, each in settings.items() if each.tls_key):
        from zconfig._sources.files import MAX_PEM_BYTES, FileError, located, read_text

        declared = resolution.provenance[alias, "tls_key"]
        with suppress(FileError):
            key = read_text(anchored(path, directory), limit_bytes=MAX_PEM_BYTES, kind="key")
            for each in located(key.warnings, declared.origin):
                yield replace(each, alias=alias, field="tls_key")


def _places(results: Iterable[SourceResult], environ: Mapping[str, str]) -> Iterable[Entry]:
    """Yield the entries that may name a server's address, highest precedence first."""
    for key, value in environ.items():
        yield Entry(key, Secret(value), Origin("environment", key))
    for result in results:
        yield from (*result.places, *result.entries)


def _is_unread(entry: Entry) -> bool:
    value = entry.value.reveal()
    return bool(value) and is_unread_place(entry.key, value)


def _read_named_file(directory: Path, entry: Entry) -> tuple[Entry | None, tuple[Problem, ...]]:
    """Read the file that a `_FILE` variable names."""
    result = _guarded(entry.origin, _named_file, directory, entry)
    return next(iter(result.entries), None), result.problems


def _named_file(directory: Path, entry: Entry) -> SourceResult:
    from zconfig._sources.files import FileError, located, read_secret

    # The value may be the secret itself, set by mistake.
    written = entry.value.reveal()
    path = Hidden(anchored(written, directory))
    origin = replace(entry.origin, via=str(written) if os.path.lexists(path) else None)
    try:
        secret = read_secret(path)
    except FileError as error:
        return SourceResult(entry.key, problems=(error.problem(origin),))
    read = Entry(entry.key, Secret(secret.value), origin, secret.had_line_end)
    odd = questionable(secret.value, origin)
    return SourceResult(entry.key, (read,), (*located(secret.warnings, origin), *odd))


def _optional(resolution: Resolution) -> frozenset[str]:
    """Return the aliases with REQUIRED=false, including invalid ones."""
    values = resolution.values.items()
    return frozenset(alias for alias, fields in values if _is_false(fields.get("required", "")))


def _is_false(text: str) -> bool:
    try:
        return not TypeAdapter(bool).validate_python(text)
    except ValidationError:
        return False


def _check_default(read: OptionsRead, known: Iterable[str]) -> tuple[Problem, ...]:
    """Warn of a default alias that is not configured: code may still configure it."""
    wanted, names = read.options.default_alias, sorted(known)
    if wanted is None or wanted in names:
        return ()
    return (
        Problem(
            "unknown_default_alias",
            f"names `{wanted}`, which is not configured",
            f"use one of {', '.join(names)}" if names else f"set {variable_name(wanted, 'uri')}",
            origin=read.origins["default_alias"],
            severity="warning",
        ),
    )
