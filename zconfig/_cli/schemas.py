"""JSON Schemas of what the commands write with `--format json`.

Keys are only ever added, so that a consumer should pass over what it does not know.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

OF_COMMANDS = ("check", "wait", "list", "doctor", "explain", "version")
"""The commands that have JSON."""


def schema_of(command: str) -> Schema:
    """Return the schema of a command's JSON.

    Args:
        command: One of `OF_COMMANDS`.

    Example:
        >>> schema_of("version")["title"]
        'zconfig version --format json'
    """
    contents = {
        "doctor": _report(_DIAGNOSED),
        "explain": _EXPLANATION,
        "version": _VERSIONS,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"zconfig {command} --format json",
        **contents.get(command, _report({})),
    }


def _object(**properties: Schema) -> Schema:
    """Return the schema of an object that has all of these keys."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _maybe(schema: Schema, description: str) -> Schema:
    """Return a schema that null fits, too."""
    if isinstance(schema.get("type"), str) and schema["type"] != "object":
        return {**schema, "type": [schema["type"], "null"], "description": description}
    return {"anyOf": [schema, {"type": "null"}], "description": description}


def _number(description: str, **more: Any) -> Schema:
    return {"type": "number", "description": description, **more}


def _boolean(description: str) -> Schema:
    return {"type": "boolean", "description": description}


_STRING: Schema = {"type": "string"}
_MILLISECONDS: Schema = {"type": "number", "minimum": 0}
_LINE: Schema = {"type": "integer", "minimum": 1}
_EXIT_CODE: Schema = {
    "type": "integer",
    "minimum": 0,
    "maximum": 8,
    "description": "the exit code that it calls for",
}

_FAILURE = _object(
    cause=_text("stable identifier: of a cause in errors.md, or of a problem in problems.md"),
    message=_text("the whole message, without secrets"),
    exit_code=_EXIT_CODE,
    stage=_maybe(_STRING, "how far the connect came; null for a wrong configuration"),
    permanent=_boolean("whether trying again cannot help"),
    remedy=_text("one thing to do"),
    problem=_text("what is wrong, in a few words"),
    detail=_text("what was seen"),
    origin=_text("where the value at fault was set"),
    hint=_text("an observation about the surroundings that makes the cause likelier"),
    elapsed_ms=_maybe(_MILLISECONDS, "milliseconds from the start of the connect to the verdict"),
    file=_maybe(_STRING, "the file in which the value at fault was set, if it was in one"),
    line=_maybe(_LINE, "the line in that file"),
)

_COUNT: Schema = {"type": "integer", "minimum": 0}
_PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")
_INSTANT = _text("when it was, in UTC", format="date-time")

_STATS = _object(
    state=_text("what it is doing", enum=["idle", "connecting", "connected", "lost", "retrying"]),
    since=_INSTANT,
    required=_boolean("whether its failure counts"),
    last_error=_text("why it is lost or retrying"),
    connects={**_COUNT, "description": "how often it was connected"},
    failures={
        "type": "object",
        "additionalProperties": _COUNT,
        "description": "how often an attempt to connect failed, by cause",
    },
    losses={**_COUNT, "description": "how often its server was lost"},
    reconnects={**_COUNT, "description": "how often its server came back"},
    rotations={**_COUNT, "description": "how often it took up new credentials"},
    round_trips=_maybe(
        _object(count=_COUNT, **dict.fromkeys(("last_ms", *_PERCENTILES), _MILLISECONDS)),
        "of the latest pings: how many, the last, and what so many in 100 did not exceed",
    ),
)

_ROW = _object(
    alias=_text("the connection's name"),
    endpoint=_maybe(_STRING, "where it leads, without credentials; null if that is not known"),
    db_name=_maybe(_STRING, "the database"),
    required=_boolean("whether its failure counts"),
    origin=_maybe(_STRING, "where its URI was set"),
    state=_text(
        "`configured`: not dialed; `given up`: not waited for, since another failed for good",
        enum=["configured", "connected", "failed", "given up"],
    ),
    server_version=_maybe(_STRING, "what the server calls itself"),
    round_trip_ms=_maybe(_MILLISECONDS, "milliseconds of one ping"),
    failure=_maybe(_FAILURE, "why it is not connected"),
    stats=_maybe(_STATS, "what has happened to it since the command began; only with `--watch`"),
)

_SEVERITY = _text(
    "`error` keeps the alias from connecting, `warning` does not", enum=["error", "warning"]
)
_ALIAS = _maybe(_STRING, "the alias concerned, if it is one in particular")
_FIELD = _maybe(_STRING, "the field concerned, if it is one in particular")

_PROBLEM_PARTS: Schema = {
    "code": _text("stable identifier; see problems.md"),
    "message": _text("what is wrong"),
    "remedy": _text("one thing to do"),
    "alias": _ALIAS,
    "field": _FIELD,
    "severity": _SEVERITY,
}

_PROBLEM = _object(
    **_PROBLEM_PARTS,
    origin=_maybe(_STRING, "where the value stood"),
    file=_maybe(_STRING, "the file that it stood in, if it was in one"),
    line=_maybe(_LINE, "the line in that file"),
)

_STAGE = _object(
    stage=_text("its name"),
    state=_text("`skipped`: not reached, or not needed", enum=["ok", "failed", "skipped"]),
    seen=_text("what was seen in it, or why it is not needed"),
    elapsed_ms=_maybe(_MILLISECONDS, "milliseconds it took; null where nothing was measured"),
)

_DIAGNOSED: Schema = {
    "stages": _list(_STAGE, "every stage, in order"),
    "warnings": _list(_STRING, "what to look after, though it does not fail"),
}


def _report(besides: Schema) -> Schema:
    """Return the schema of a report, with more keys in each alias."""
    row = _object(**{**_ROW["properties"], **besides})
    return _object(
        ok=_boolean("whether every required alias is fine"),
        exit_code=_EXIT_CODE,
        at=_INSTANT,
        elapsed_ms=_number("milliseconds that it took", minimum=0),
        aliases=_list(row, "the aliases, in the order they were asked for or declared"),
        problems=_list(_PROBLEM, "what is wrong with the configuration, warnings included"),
    )


_ORIGIN = _object(
    source=_text("kind of source, e.g. `environment` or `dotenv`"),
    key=_text("the name as written there"),
    path=_maybe(_STRING, "the file that it stood in, or the secret of a secret manager"),
    line=_maybe(_LINE, "the line in that file"),
    via=_maybe(_STRING, "the file that a `_FILE` variable names"),
    text=_text("all of that in one line"),
)

_FINGERPRINT = _object(
    digest=_text("eight digits that are the same wherever the secret is the same"),
    length=_number("how many characters it has"),
    had_line_end=_boolean("whether its file ended in a line end, which is not part of it"),
)

_VALUE = _maybe(_STRING, "the value as it may be shown; a secret is masked")
_MARK = _maybe(_FINGERPRINT, "of a secret")

_SHADOWED = _object(
    origin=_ORIGIN, reason=_text("why it does not count"), value=_VALUE, fingerprint=_MARK
)

_EXPLAINED = _object(
    field=_text("the field's name"),
    variable=_text("the variable that sets it"),
    value=_VALUE,
    origin=_maybe(_ORIGIN, "where the value stood; null for a default"),
    layer=_maybe(_STRING, "the layer it stood in"),
    part=_maybe(_STRING, "the part of a URI that it stood in: path or userinfo"),
    shadowed=_list(_SHADOWED, "what is set for it elsewhere, and does not count"),
    empty=_list(_ORIGIN, "where it is set but empty, which counts as unset"),
    fingerprint=_MARK,
)

_PROBLEM_WITH_ORIGIN = _object(**_PROBLEM_PARTS, origin=_maybe(_ORIGIN, "where the value stood"))

_EXPLANATION = _object(
    aliases=_list(
        _object(
            alias=_text("the connection's name"),
            fields=_list(_EXPLAINED, "every field"),
            problems=_list(_PROBLEM_WITH_ORIGIN, "what is wrong with it"),
        ),
        "the aliases asked for",
    ),
    files=_list(
        _object(path=_text("the file"), state=_text("what became of it")),
        "the files that were looked for, the highest rank first",
    ),
    notes=_list(
        _object(
            origin=_ORIGIN,
            message=_text("what was made of it"),
            slot=_maybe({"type": "array", "items": _STRING}, "the alias and field concerned"),
        ),
        "what was passed over, and why",
    ),
    problems=_list(_PROBLEM_WITH_ORIGIN, "what is wrong, and concerns no alias in particular"),
)

_VERSIONS = _object(
    zconfig=_text("of zconfig"),
    python=_text("of Python"),
    grpcio=_maybe(_STRING, "of gRPC"),
    pymilvus=_maybe(_STRING, "of pymilvus; null if it is not installed"),
    milvus_lite=_maybe(_STRING, "of Milvus Lite; null if it is not installed"),
)
