"""Group the entries of each source by alias and field, and resolve the precedence of layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from zconfig._endpoint import EndpointError, parse_uri, split_userinfo
from zconfig._origin import Origin
from zconfig._redaction import Hidden, Secret, secrets_in
from zconfig._settings.fields import CREDENTIALS
from zconfig._settings.names import (
    CONTROL_PLANE_KEY,
    InvalidName,
    Name,
    Spelling,
    is_ours,
    normalize_alias,
    parse_name,
    unset_name,
)
from zconfig._sources.base import Entry, SourceResult, questionable
from zconfig._sources.environment import is_milvus
from zconfig.errors import Problem, Severity

# Their parsers strip white space, or reject invalid values; other fields and options are texts.
_PARSED = {"uri", "timeout", "required", "keepalive", "pool_size"}
_PARSED |= {"strict", "wait", "log_format", "log_level", "profile", "default_alias"}

SERVICE_LINK = "is set by Kubernetes for a service, and is not read"
FOREIGN = "is not a field of a connection; zconfig does not read it"


class Setting(NamedTuple):
    """One entry with a valid name; if its value is used, the provenance of its field.

    Args:
        word: The field, in its spelling.
        entry: The entry.
        layer: The name of its layer.
        shadowed: The settings that it takes precedence over.
    """

    word: Spelling
    entry: Entry
    layer: str
    shadowed: tuple[Setting, ...] = ()

    @property
    def origin(self) -> Origin:
        """The origin of the value."""
        return self.entry.origin


class Layer(NamedTuple):
    """The entries of one source.

    Args:
        name: The source's name, e.g. `environment` or `.env`.
        aliases: The settings of each alias, in the order of the source.
        faults: Problems of one field of one alias, e.g. a file that cannot be read.
        passed_over: `ZILLIZ_*` names that set no field, with the reasons.
    """

    name: str
    aliases: Mapping[str, Sequence[Setting]]
    faults: tuple[Problem, ...] = ()
    passed_over: tuple[tuple[Origin, str], ...] = ()


def group(result: SourceResult, *, strict: bool) -> tuple[Layer, tuple[Problem, ...]]:
    """Group the entries of a source by alias and field.

    Args:
        result: The result of one source.
        strict: Whether an unknown name is an error instead of a warning.

    Returns:
        The layer, and the problems that concern no field of an alias: those of the source as a
        whole, and of each invalid name that looks like a typo.
    """
    aliases: dict[str, list[Setting]] = defaultdict(list)
    located = [_locate(problem) for problem in result.problems]
    faults = [problem for problem in located if problem.alias]
    problems = [problem for problem in located if not problem.alias]
    passed_over: list[tuple[Origin, str]] = []
    for entry in result.entries:
        name = parse_name(entry.key)
        if isinstance(name, Name):
            aliases[name.alias].append(Setting(name.word, entry, result.name))
            faults += _questionable(name, entry)
        elif isinstance(name, InvalidName) and not _is_foreign(name):
            problems.append(_misnamed(name, entry.origin, strict=strict))
        elif is_ours(entry.key):
            passed_over.append((entry.origin, FOREIGN if name else SERVICE_LINK))
        elif normalize_alias(entry.key).removeprefix("zconfig_") not in _PARSED:
            problems += questionable(entry.value.reveal(), entry.origin)
    return Layer(result.name, dict(aliases), tuple(faults), tuple(passed_over)), tuple(problems)


def _questionable(name: Name, entry: Entry) -> Iterator[Problem]:
    if name.word.is_file or name.word.field not in _PARSED:
        for each in questionable(entry.value.reveal(), entry.origin):
            yield replace(each, alias=name.alias, field=name.word.field)


def _locate(problem: Problem) -> Problem:
    """Set the alias and field of a problem, if its key names them."""
    origin = problem.origin
    name = parse_name(origin.key) if origin else None
    if isinstance(name, Name):
        return replace(problem, alias=name.alias, field=name.word.field)
    is_variable = origin and (origin.source == "environment" or origin.line is not None)
    # A variable of the application may have any value.
    return replace(problem, severity="warning") if name and is_variable else problem


def _is_foreign(name: InvalidName) -> bool:
    """Return whether an unknown name resembles no known one, and belongs to the application."""
    return name.code == "unknown_name" and name.suggestion is None


def _misnamed(name: InvalidName, origin: Origin, *, strict: bool) -> Problem:
    unknown = name.code == "unknown_name"
    meant = name.suggestion
    remedy = f"did you mean {meant}?" if meant else "choose another alias"
    severity: Severity = "error" if strict or not unknown else "warning"
    return Problem(name.code, name.message, remedy, name.alias or None, None, origin, severity)


_CONTROL_PLANE_KEYS = frozenset({CONTROL_PLANE_KEY, f"{CONTROL_PLANE_KEY}_file"})
PAIRED = _CONTROL_PLANE_KEYS | {"milvus_token", "milvus_user", "milvus_password"}
"""Variables, folded, whose credentials are not sent to every endpoint of `default`."""

FieldKey = tuple[str, str]
"""Alias and field."""

Values = Mapping[str, Mapping[str, Hidden]]
"""Values by alias and field."""

Candidates = Sequence[Setting]
"""The settings of one field in one layer: several if it has more than one spelling."""

ReadFile = Callable[[Entry], tuple[Entry | None, tuple[Problem, ...]]]
"""Reads the file that a `_FILE` variable names: returns its entry or `None`, and its problems."""


class Resolution(NamedTuple):
    """The settings after resolving the precedence of all layers.

    Args:
        values: The values that are used; the aliases of the lowest layer come first.
        provenance: The setting that each value comes from.
        empty: Entries that are set but empty, which counts as unset.
        broken: Fields whose value is unusable; no lower layer replaces it.
        problems: The problems of all layers.
        secrets: Every secret that was read, including those that are not used.
        unpaired: Credentials of one endpoint, if another one or none is used.
        passed_over: The settings of lower layers for broken fields, in the order of the layers.
    """

    values: Values
    provenance: Mapping[FieldKey, Setting]
    empty: tuple[tuple[FieldKey, Origin], ...]
    broken: frozenset[FieldKey]
    problems: tuple[Problem, ...]
    secrets: tuple[Secret, ...] = ()
    unpaired: tuple[Setting, ...] = ()
    passed_over: Mapping[FieldKey, Candidates] = MappingProxyType({})


def resolve_layers(
    layers: Iterable[Layer], read_file: ReadFile, *, strict: bool = False
) -> Resolution:
    """Select the value with the highest precedence for each field of each alias.

    Args:
        layers: The layers, highest precedence first.
        read_file: Reads the file of a `_FILE` variable; called only for values that are used.
        strict: Whether credentials of another endpoint are an error instead of a warning.
    """
    resolver = _Resolver(read_file, strict=strict)
    # All URIs first: whether the credentials of a layer are used depends on the URI that is used.
    besides = [(layer, resolver.take_uris(layer)) for layer in layers]
    taken = [resolver.take(layer, each) for layer, each in besides]
    values: dict[str, dict[str, Hidden]] = defaultdict(dict)
    for contribution in reversed(taken):
        for alias, fields in contribution.items():
            values[alias].update(fields)
    return Resolution(
        values,
        resolver.provenance,
        tuple(resolver.empty),
        frozenset(resolver.broken),
        tuple(resolver.problems),
        tuple(resolver.secrets),
        tuple(resolver.unpaired),
        resolver.passed_over,
    )


class _Resolver:
    """Process the layers, highest precedence first, and record the fields that are settled."""

    def __init__(self, read_file: ReadFile, *, strict: bool) -> None:
        self._read_file = read_file
        self._strict = strict
        self.provenance: dict[FieldKey, Setting] = {}
        self.empty: list[tuple[FieldKey, Origin]] = []
        self.broken: set[FieldKey] = set()
        self.problems: list[Problem] = []
        self.secrets: list[Secret] = []
        self.unpaired: list[Setting] = []
        self.passed_over: dict[FieldKey, Candidates] = {}
        self._unread_uris: dict[tuple[str, str], Origin] = {}  # by alias and layer

    def take_uris(self, layer: Layer) -> Mapping[str, dict[str, Candidates]]:
        """Take the URIs of a layer, and return its other fields."""
        for fault in layer.faults:
            if fault.field == "uri":
                if fault.severity == "error" and fault.origin:
                    self._unread_uris[fault.alias or "", layer.name] = fault.origin
                self._take_fault(fault)
        declared = {alias: _by_field(each) for alias, each in layer.aliases.items()}
        for alias, fields in declared.items():
            if uri := self._take_uri(alias, fields):
                self.provenance[alias, "uri"] = uri
        return declared

    def take(self, layer: Layer, besides: Mapping[str, dict[str, Candidates]]) -> Values:
        """Return the values that a layer adds to the layers above it."""
        for fault in layer.faults:
            if fault.field != "uri":
                self._take_fault(fault)
        contribution = {}
        for alias, fields in besides.items():
            taken = self._take_alias(alias, fields)
            for field, each in taken.items():
                self.provenance[alias, field] = each
            uri = self.provenance.get((alias, "uri"))
            if uri and uri.layer == layer.name:
                taken = {"uri": uri, **taken}
            if taken:
                contribution[alias] = {
                    field: each.entry.value.reveal() for field, each in taken.items()
                }
        return contribution

    def _take_fault(self, fault: Problem) -> None:
        """Mark a field with an unreadable value as broken, unless a higher layer sets it."""
        field_key = (fault.alias or "", fault.field or "")
        rivals = CREDENTIALS if field_key[1] in CREDENTIALS else (field_key[1],)
        if any(self._is_settled((field_key[0], name)) for name in rivals):
            fault = replace(fault, severity="warning")
        elif fault.severity == "error":
            self.broken.add(field_key)
        self.problems.append(fault)

    def _take_alias(self, alias: str, fields: dict[str, Candidates]) -> dict[str, Setting]:
        """Take each field separately, but the credentials as one value."""
        taken: dict[str, Setting] = {}
        credentials = {name: fields.pop(name) for name in CREDENTIALS if name in fields}
        for field, candidates in fields.items():
            declared = self._take_field((alias, field), self._paired(alias, candidates))
            if declared:
                taken[field] = declared
        return taken | self._take_credentials(alias, credentials)

    def _take_uri(self, alias: str, fields: dict[str, Candidates]) -> Setting | None:
        """Take the URI; the credentials in it belong to the same layer.

        `user:password@` sets USER and PASSWORD. `key@` sets the token, as in pymilvus, unless the
        layer sets a PASSWORD.
        """
        declared = self._take_field((alias, "uri"), fields.pop("uri", ()))
        if declared is None or "@" not in declared.entry.value.reveal():
            return declared
        try:
            userinfo = split_userinfo(declared.entry.value.reveal())
        except EndpointError as error:
            complaint = error.code, error.message, error.remedy
        else:
            alone = userinfo.password is None and "password" not in fields
            user_field = "token" if alone else "user"
            if userinfo.uri == declared.entry.value:
                self._note_secrets(declared)  # a malformed URI may contain unrecognised credentials
            for field, text in ((user_field, userinfo.user), ("password", userinfo.password)):
                if text is not None:
                    fields[field] = (*fields.get(field, ()), _part(declared, field, text))
            return _part(declared, "uri", userinfo.uri)
        self._note_secrets(declared)
        self._break((alias, "uri"), declared.origin, *complaint)
        return None

    def _take_credentials(self, alias: str, fields: Mapping[str, Candidates]) -> dict[str, Setting]:
        """Take all credentials of a layer, or none of them if a higher layer has any."""
        if not fields:
            return {}
        settled = [name for name in CREDENTIALS if self._is_settled((alias, name))]
        if settled:
            for candidates in fields.values():
                self._shadow((alias, settled[0]), candidates)
            return {}
        own = {name: self._paired(alias, each) for name, each in fields.items()}
        values = {name: self._value((alias, name), each) for name, each in own.items()}
        found = {name: each for name, each in values.items() if each}
        wrong = self._complain_of(alias, found) or self._complain_of_another_endpoint(alias, found)
        return {} if wrong else found

    def _paired(self, alias: str, candidates: Candidates) -> Candidates:
        """Leave out a value that belongs to an endpoint which is not used."""
        if (alias, "uri") in self.broken:
            return candidates
        uri = self.provenance.get((alias, "uri"))
        left_out = [each for each in candidates if each.entry.value and not _belongs(each, uri)]
        for each in left_out:
            self._note_secrets(each)
        self.unpaired += left_out
        return [each for each in candidates if each not in left_out]

    def _complain_of_another_endpoint(self, alias: str, found: Mapping[str, Setting]) -> bool:
        """Warn of credentials that are set with another endpoint; reject them in strict mode."""
        uri = self.provenance.get((alias, "uri"))
        if uri is None or not found:
            return False
        field, first = next(iter(found.items()))
        other = _other_endpoint(first, uri)
        beside = other.origin if other else self._unread_uris.get((alias, first.layer))
        if beside is None:
            return False
        problem = Problem(
            "credentials_of_another_endpoint",
            f"is sent to the endpoint in {uri.origin}, but is set together with {beside}",
            f"set the credentials together with {uri.origin}, or remove that URI",
            alias,
            field,
            first.origin,
            "error" if self._strict else "warning",
        )
        self.problems.append(problem)
        if self._strict:
            self.broken.add((alias, field))
        return self._strict

    def _complain_of(self, alias: str, found: Mapping[str, Setting]) -> bool:
        """Reject two forms of credentials in one layer, and half of a pair."""
        if "token" in found and len(found) > 1:
            other = next(found[name] for name in ("user", "password") if name in found)
            token = found["token"].origin.name
            self._break(
                (alias, "token"),
                other.origin,
                "two_credentials",
                f"sets credentials, and so does {token} in the same place",
                f"remove {token}, or the user and password",
            )
            return True
        for present, absent in (("user", "password"), ("password", "user")):
            if present in found and absent not in found and (alias, absent) not in self.broken:
                origin = found[present].origin
                token, missing = (unset_name(alias, each, origin) for each in ("token", absent))
                self._break(
                    (alias, absent),
                    origin,
                    "half_credentials",
                    f"is set without {missing} in the same place",
                    f"set {missing} there, or use only {token}",
                )
                return True
        return False

    def _take_field(self, field_key: FieldKey, candidates: Candidates) -> Setting | None:
        if self._is_settled(field_key):
            self._shadow(field_key, candidates)
            return None
        return self._value(field_key, candidates)

    def _value(self, field_key: FieldKey, candidates: Candidates) -> Setting | None:
        """Return the value of a field in one layer, in which all spellings must agree."""
        found = [read for each in candidates if (read := self._read(field_key, each))]
        if field_key in self.broken or not found:
            return None
        first, *others = found
        for other in others:
            if other.entry.value != first.entry.value:
                self._break(
                    field_key,
                    other.origin,
                    "conflict",
                    f"differs from {first.origin}",
                    "keep one of the two",
                )
                return None
        return first

    def _read(self, field_key: FieldKey, declared: Setting) -> Setting | None:
        """Return a setting with its file read, or `None` if it is empty or unreadable."""
        if declared.word.is_file and declared.entry.value:
            entry, problems = self._read_file(declared.entry)
            self.problems += [replace(p, alias=field_key[0], field=field_key[1]) for p in problems]
            if entry is None:
                self.broken.add(field_key)
                return None
            declared = declared._replace(entry=entry)
        if not declared.entry.value:
            self.empty.append((field_key, declared.origin))
            return None
        if field_key[1] != "uri":  # the parts of a URI are recorded separately
            self._note_secrets(declared)
        return declared

    def _note_secrets(self, declared: Setting) -> None:
        """Record the secrets of a setting for masking, used or not."""
        self.secrets += secrets_in({declared.word.field: declared.entry.value})

    def _is_settled(self, field_key: FieldKey) -> bool:
        return field_key in self.provenance or field_key in self.broken

    def _shadow(self, field_key: FieldKey, candidates: Candidates) -> None:
        """Record the settings that a value takes precedence over."""
        beaten = tuple(each for each in candidates if each.entry.value)
        for each in beaten:
            if not each.word.is_file:
                self._note_secrets(each)
        winner = self.provenance.get(field_key)
        if winner:
            self.provenance[field_key] = winner._replace(shadowed=(*winner.shadowed, *beaten))
        elif beaten:
            self.passed_over[field_key] = (*self.passed_over.get(field_key, ()), *beaten)

    def _break(
        self, field_key: FieldKey, origin: Origin, code: str, message: str, remedy: str
    ) -> None:
        self.broken.add(field_key)
        self.problems.append(Problem(code, message, remedy, field_key[0], field_key[1], origin))


def _by_field(declared: Iterable[Setting]) -> dict[str, Candidates]:
    fields: dict[str, list[Setting]] = defaultdict(list)
    for each in declared:
        fields[each.word.field].append(each)
    return dict(fields)


def _part(declared: Setting, field: str, text: str | Secret) -> Setting:
    """Return a part of a URI as the value of a field."""
    entry = replace(declared.entry, value=Secret(text))
    return declared._replace(word=Spelling(field, is_file=False), entry=entry)


def _belongs(declared: Setting, uri: Setting | None) -> bool:
    """Return whether a value may be sent to an endpoint: some variables are for one only."""
    key = normalize_alias(declared.origin.key)
    if key in _CONTROL_PLANE_KEYS:
        # A service binding has its own credentials, as `MILVUS_URI` has.
        has_own = uri and (is_milvus(uri.origin.key) or uri.origin.source == "service binding")
        return uri is not None and not has_own
    if is_milvus(key):
        return uri is not None and _is_of(uri, declared.layer)
    return True


def _is_of(uri: Setting, layer: str) -> bool:
    """Return whether the `MILVUS_URI` of a layer, or else of every layer, names this endpoint."""
    theirs = [each for each in (uri, *uri.shadowed) if is_milvus(each.origin.key)]
    own = [each for each in theirs if each.layer == layer] or theirs
    return bool(own) and all(each is uri or _is_same_server(each, uri) for each in own)


def _other_endpoint(declared: Setting, uri: Setting) -> Setting | None:
    """Return another endpoint that is set in the same place as credentials."""
    lost = (each for each in uri.shadowed if each.layer == declared.layer)
    # A URI in a file that was not read may be another endpoint.
    return next((e for e in lost if e.word.is_file or not _is_same_server(e, uri)), None)


def _is_same_server(lost: Setting, uri: Setting) -> bool:
    """Return whether two URIs name the same server; not if only the shadowed one uses TLS."""
    try:
        one, other = (parse_uri(each.entry.value.reveal()) for each in (lost, uri))
    except EndpointError:
        return False
    has_less = one.secure and not other.secure
    return not has_less and (one.host, one.port, one.path) == (other.host, other.port, other.path)
