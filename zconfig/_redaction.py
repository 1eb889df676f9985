"""Masking of secrets. No other module decides which parts of a text are shown."""

from __future__ import annotations

import base64
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from typing import NoReturn, SupportsIndex, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

MASK = "********"

SHORTEST = 6
"""In characters. A shorter secret is not masked, since it would match parts of other words.

Milvus accepts no shorter password (measured: 2.3.5 answers `5 out of range 6 <= value <= 256`).
"""

# The default password of Milvus. Masking it would remove the product's name from every text, and
# thereby reveal the password. The pair `root:Milvus` is masked.
_PUBLIC = frozenset({"Milvus"})

_SECRET = frozenset({"token", "api_key", "password"})
_WITH_USERINFO = frozenset({"uri", "endpoint", "address", "host", "proxy"})

_AUTHORITY = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:)?//(?P<rest>.*)$", re.DOTALL)
_QUERY = re.compile(r"([?#]).*$", re.DOTALL)


_LONGEST_EVIDENCE = 200

# The position between the characters that begin a CI command: `::` and a word at the start of a
# line (GitHub), but not in an IPv6 address; `##[` and `##vso[` anywhere (GitHub once, Azure).
_COMMAND = re.compile(r"(?<=:)(?=:[\dA-Fa-f]*[G-Zg-z-])|(?<=#)(?=#[A-Za-z]*\[)")


class Hidden(str):
    """A secret as text, whose representation is hidden.

    Use it for local variables and arguments; objects store a `Secret`.

    Tracebacks with locals, debug output and pickles use the `repr` or the state of a value, where
    a plain `str` would reveal the secret. The methods of `str` use the value.

    Examples:
        >>> Hidden("s3cret")
        <hidden>
        >>> Hidden("s3cret") == "s3cret"
        True
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"

    def __getitem__(self, key: SupportsIndex | slice, /) -> Hidden:
        # Tracebacks truncate a long text before they call `repr`.
        return Hidden(super().__getitem__(key))

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[type[Hidden], tuple[str]]:
        return Hidden, (MASK,)


class Secret:
    """A secret as an attribute of an object.

    Serializers and test tools show any `str` despite its `repr`, and walk the attributes of
    objects. Therefore this is not a `str`, and keeps its value in a closure.

    Args:
        value: The secret; a value of another type is converted with `str`.
        shown: The text to show in its place.

    Attributes:
        reveal: Returns the value.

    Examples:
        >>> secret = Secret("s3cret")
        >>> secret, secret == "s3cret", secret.reveal().upper()
        (<hidden>, True, 'S3CRET')
    """

    __slots__ = ("_shown", "reveal")

    reveal: Callable[[], Hidden]

    def __init__(self, value: object, shown: str = "<hidden>") -> None:
        text = value.reveal() if isinstance(value, Secret) else Hidden(value)
        self.reveal = lambda: text
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown

    def __eq__(self, other: object) -> bool:
        value = other.reveal() if isinstance(other, Secret) else other
        return self.reveal() == value if isinstance(value, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (MASK,)


def sealed(value: T) -> Callable[[], T]:
    """Wrap a value of a third-party option in a function, so that no traceback shows it."""
    return lambda: value


def redact_uri(text: str) -> str:
    """Return a URI with its userinfo and query masked, even if it is malformed.

    Args:
        text: A URI, or any text in its place.

    Returns:
        The same text, with anything before the last `@` of the authority and anything after
        the first `?` or `#` replaced by a mask.

    Examples:
        >>> redact_uri("https://root:Milvus@db.example:19530/sales")
        'https://********@db.example:19530/sales'
    """
    prefix, userinfo, rest = _at_userinfo(text)
    rest = _QUERY.sub(rf"\1{MASK}", rest)
    return rest if userinfo is None else f"{prefix}{MASK}@{rest}"


def secrets_in(fields: Mapping[str, object]) -> Iterator[Secret]:
    """Yield the secrets in the fields of a connection, valid or not.

    Args:
        fields: Values by the names of fields, or of the parameters of a call.

    Examples:
        >>> fields = {"uri": "http://root:p%40ss@db", "token": "s3cret", "db_name": "sales"}
        >>> [str(secret.reveal()) for secret in secrets_in(fields)]
        ['root:p@ss', 's3cret']
    """
    for name, value in fields.items():
        text = value.reveal() if isinstance(value, Secret) else value
        if isinstance(value, Mapping):
            yield from secrets_in(value)
        elif isinstance(text, str) and name in _SECRET:
            yield Secret(text)
        elif isinstance(text, str) and name in _WITH_USERINFO:
            before, userinfo, _ = _at_userinfo(text)
            if userinfo and (before or ":" in userinfo):  # a path may contain an @, too
                yield Secret(unquote(userinfo))
    if fields.get("user") and fields.get("password"):
        yield Secret(f"{fields['user']}:{fields['password']}")


def _at_userinfo(text: str) -> tuple[str, Hidden | None, str]:
    """Split a URI before and after its userinfo, which is `None` if there is none."""
    # A password may contain any unescaped delimiter, so split at the last `@` of the text first.
    head, at, rest = text.rpartition("@")
    if not at:
        return "", None, rest
    scheme = _AUTHORITY.match(head)
    if scheme is None:
        return "", Hidden(head), rest
    return f"{scheme['scheme'] or ''}//", Hidden(scheme["rest"]), rest


def evidence(text: str, secrets: Iterable[str | Secret] = ()) -> str:
    r"""Return an external text for display: one short line, without credentials.

    A CI runner does not interpret any part of it as a command, even if a table wraps the line.

    Args:
        text: The message of a server, a proxy or the operating system.
        secrets: Secrets that the message may repeat.

    Examples:
        >>> evidence("no route via http://user:pass@proxy:3128\n  at all")
        'no route via http://********@proxy:3128 at all'
        >>> evidence("bad key s3cret-key\n::error::forged", ["s3cret-key"])
        'bad key ******** : :error: :forged'
    """
    # Mask before truncating: a part of a secret would not be recognised.
    words = _compile(frozenset(secrets))(text).split()
    line = " ".join(redact_uri(word) if "@" in word else word for word in words)
    line = "".join(char if char.isprintable() else "?" for char in line)
    line = without_commands(line)
    return line if len(line) <= _LONGEST_EVIDENCE else f"{line[: _LONGEST_EVIDENCE - 1]}…"


def without_commands(text: str) -> str:
    """Return a text in which a CI runner finds no command.

    Examples:
        >>> without_commands("::error::forged ##[error]forged [::1]:19530")
        ': :error: :forged # #[error]forged [::1]:19530'
    """
    return re.sub(_COMMAND, " ", text)


class RecentSecrets:
    """The most recent secrets, for a `Masker`.

    A replaced secret is valid until it is revoked, and a rejected one may be valid elsewhere.

    Args:
        most: The maximum number of secrets to keep.

    Examples:
        >>> recent = RecentSecrets(most=2)
        >>> recent.add(["first", "second", "second", "third"])
        >>> [str(secret.reveal()) for secret in recent]
        ['second', 'third']
    """

    def __init__(self, most: int = 1_000) -> None:
        self._secrets: deque[Secret] = deque(maxlen=most)

    def add(self, secrets: Iterable[str | Secret]) -> None:
        """Add secrets."""
        known = frozenset(self)
        self._secrets.extend(Secret(each) for each in dict.fromkeys(secrets) if each not in known)

    def __iter__(self) -> Iterator[Secret]:
        return iter(self._secrets.copy())  # another thread may add one during the iteration


class Masker:
    """Replace secrets in texts, plain or encoded, with a mask.

    A secret is found plain, and as a whole in base64 (the encoding of Milvus' `authorization`
    metadata). Either is also found percent-encoded, with HTML entities (any number, decimal or
    hexadecimal, and `&amp;`, `&lt;`, `&gt;`, `&quot;`, `&apos;`, each with or without its
    semicolon), with the escapes of `repr`, JSON and JavaScript, quoted for a shell, YAML, SQL or
    CSV, and in up to three of these nested. The password of `user:password` is also a secret.

    A secret is not found in parts, with other entities (`&eacute;`), in base64 after other bytes
    or with line ends, in hexadecimal, compressed or encrypted. A secret that has fewer than six
    characters without its quotes and backslashes is found only plain; a shorter one is not found.

    Args:
        secrets: Returns the secrets; called for each text, since they change. If it raises, the
            secrets of the last call are used.

    Examples:
        >>> masker = Masker(lambda: ["root:s3cr&t"])
        >>> masker.mask("GET http://db:9091/?password=s3cr%26t failed")
        'GET http://db:9091/?password=******** failed'
    """

    def __init__(self, secrets: Callable[[], Iterable[str | Secret]]) -> None:
        self._secrets = secrets
        self._last = _compile(frozenset())

    def mask(self, text: str) -> str:
        """Return a text with every secret masked; the same object if it contains none."""
        return self.current()(text)

    def current(self) -> Callable[[str], str]:
        """Return a `mask` function for the current secrets, to mask many texts."""
        with suppress(Exception):  # the provider may be third-party, and no text may be lost
            self._last = _compile(frozenset(self._secrets()))
        return self._last

    def __reduce__(self) -> NoReturn:
        raise TypeError("a masker cannot be pickled: it contains the secrets")


# --- the texts that reveal a secret ----------------------------------------------------------

_MOST_ENCODINGS = 3  # nested

_PERCENT = re.compile("%(?P<byte>[0-9A-Fa-f]{2})")
# HTML also accepts an entity without its semicolon, and any number of leading zeros.
_ENTITY = re.compile(
    r"&(?:#0*(?P<decimal>[0-9]{1,7})|#[xX]0*(?P<hex>[0-9A-Fa-f]{1,6})"
    r"|(?P<name>amp|lt|gt|quot|apos));?"
)
_ESCAPE = re.compile(
    r"(?<!\\)\\+(?:x(?P<x>[0-9A-Fa-f]{2})|u(?P<u>[0-9A-Fa-f]{4})|U00(?P<U>[01][0-9A-Fa-f]{5}))"
)
_ENCODINGS = (_PERCENT, _ENTITY, _ESCAPE)
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}

# Characters that encoders insert, double or omit; and in forms a space is a plus.
_QUOTES = "\\\"'"
_UNQUOTED = str.maketrans("+", " ", _QUOTES)

_Encodings = tuple[re.Pattern[str], ...]


@lru_cache(maxsize=64)
def _compile(secrets: frozenset[str | Secret]) -> Callable[[str], str]:
    """Return a function that masks secrets; not a pattern, whose `repr` would show them."""
    forms = {form for secret in secrets for form in _forms(Secret(secret).reveal())}
    if not forms:
        return lambda text: text
    ordered = sorted(forms, key=lambda form: (form[0], -len(form), form))  # the longest first
    # Grouped by first character, so that few of a thousand secrets are tried at each position.
    branches = (_branch(first, each) for first, each in groupby(ordered, lambda form: form[0]))
    pattern = re.compile("|".join(branches))

    def mask(text: str) -> str:
        found = sorted(_found(text, pattern))
        return _without(text, found) if found else text

    return mask


def _forms(secret: str) -> Iterator[str]:
    """Yield the texts that reveal a secret, except short ones, which match parts of words."""
    for part in {secret, secret.partition(":")[2]} - _PUBLIC:
        if len(part) >= SHORTEST:
            written = tuple(_representations(part))
            forms = (*written, *(each.translate(_UNQUOTED) for each in written))
            yield from (form for form in forms if len(form) >= SHORTEST)


def _representations(secret: str) -> Iterator[str]:
    """Yield a secret plain, as the units that its escapes encode, and in base64."""
    content = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield content.decode("ascii", "surrogateescape")
    yield "".join(map(chr, memoryview(secret.encode("utf-16", "surrogatepass")).cast("H")[1:]))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(content).decode("ascii").rstrip("=")


def _branch(first: str, forms: Iterable[str]) -> str:
    """Return a pattern of texts that begin with the same character."""
    return f"{re.escape(first)}(?:{'|'.join(re.escape(form[1:]) for form in forms)})"


def _found(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each secret in a text."""
    for reading, taken in _readings(text):
        unquoted = reading.translate(_UNQUOTED)
        if pattern.search(reading) or pattern.search(unquoted):
            places = _places(text, taken)
            left = [at for at, char in enumerate(reading) if char not in _QUOTES]
            for match in pattern.finditer(reading):
                yield places[match.start()], places[match.end()]
            for match in pattern.finditer(unquoted):
                yield places[left[match.start()]], places[left[match.end() - 1] + 1]


def _readings(text: str) -> Sequence[tuple[str, _Encodings]]:
    """Return a text, and its decodings in every order of the encodings."""
    readings: list[tuple[str, _Encodings]] = [(text, ())]
    known = {text}
    for each, taken in readings:
        for encoding in _ENCODINGS if len(taken) < _MOST_ENCODINGS else ():
            decoded = encoding.sub(_character, each)
            if decoded not in known:
                known.add(decoded)
                readings.append((decoded, (*taken, encoding)))
    return readings


def _places(text: str, taken: _Encodings) -> Sequence[int]:
    """Return the position before decoding of each character, and of the end, of a decoded text."""
    places: Sequence[int] = range(len(text) + 1)
    for encoding in taken:
        left: list[int] = []
        at = 0
        for match in encoding.finditer(text):
            left += places[at : match.start() + 1]
            at = match.end()
        text, places = encoding.sub(_character, text), [*left, *places[at:]]
    return places


def _character(escape: re.Match[str]) -> str:
    """Return the character that an escape encodes, or one byte of it if it is not ASCII."""
    kind = escape.lastgroup or ""
    if kind == "name":
        return _NAMED[escape[kind]]
    code = int(escape[kind], 10 if kind == "decimal" else 16)
    if kind == "byte":
        return bytes([code]).decode("ascii", "surrogateescape")
    return chr(code) if code <= sys.maxunicode else "\N{REPLACEMENT CHARACTER}"  # as in HTML


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text with spans masked, which may overlap."""
    masked, end = "", 0
    for first, last in spans:
        if first >= end:
            masked += text[end:first] + MASK
        end = max(end, last)
    return masked + text[end:]
