"""What may be shown of a secret: nothing, in whatever form it is met."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import pprint
import re
import reprlib
import shlex
import string
import time
import timeit
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, quote_plus
from xml.sax import saxutils

import orjson
import pydantic_core
import pytest
import rich.pretty
from hypothesis import assume, given
from hypothesis import strategies as st
from structlog.tracebacks import to_repr

from zconfig._redaction import (
    MASK,
    SHORTEST,
    Hidden,
    Masker,
    RecentSecrets,
    Secret,
    redact_uri,
    secrets_in,
)

SECRET = 's3cr&t/with "every" kind\' of \\ char+$'

# --- a value on its way ----------------------------------------------------------------------


def with_locals(text: str) -> str:
    """Render a traceback as `traceback` does when it is asked for local variables."""
    try:
        text.index("not in it")
    except ValueError as error:
        return "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
    return ""


SHOWN: dict[str, Callable[[str], str]] = {
    "repr": repr,
    "ascii": ascii,
    "format": "{!r}".format,
    "in a list": lambda text: repr([text]),
    "traceback": with_locals,
    "pprint": pprint.pformat,
    "reprlib": reprlib.repr,
    "rich": rich.pretty.pretty_repr,
    "rich, cut short": lambda text: rich.pretty.pretty_repr([text], max_string=80),
    "structlog, cut short": lambda text: to_repr({"token": text}, max_string=80),
}


@pytest.mark.parametrize("length", [1, 80, 81, 5000])
@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN.keys())
def test_a_hidden_value_is_not_represented(show: Callable[[str], str], length: int) -> None:
    shown = show(Hidden("¤" * length))
    assert "¤" not in shown
    assert "<hidden>" in shown


def test_a_hidden_value_is_text_all_the_same() -> None:
    hidden = Hidden("root:Milvus")
    assert hidden == "root:Milvus"
    assert f"{hidden}" == "root:Milvus"
    assert hidden.partition(":")[2] == "Milvus"
    assert [hidden[0], hidden[-1], hidden[5:]] == ["r", "s", "Milvus"]


def test_a_part_of_a_hidden_value_is_hidden() -> None:
    hidden = Hidden("root:Milvus")
    assert repr([hidden[0], hidden[:4], hidden[::-1]]) == "[<hidden>, <hidden>, <hidden>]"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hidden_value_is_not_pickled(protocol: int) -> None:
    pickled = pickle.dumps({"token": Hidden("s3cret")}, protocol)
    assert b"s3cret" not in pickled
    assert pickle.loads(pickled) == {"token": MASK}  # noqa: S301 - our own


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_hidden_value_is_a_mask(duplicate: Callable[[Hidden], Hidden]) -> None:
    assert duplicate(Hidden("s3cret")) == MASK


def test_a_dataclass_as_a_dictionary_does_not_show_a_hidden_value() -> None:
    @dataclass
    class Sign:
        password: Hidden

    assert json.dumps(asdict(Sign(Hidden("s3cret")))) == f'{{"password": "{MASK}"}}'


# --- a secret that is kept ------------------------------------------------------------------


@dataclass
class Account:
    password: Secret


@pytest.mark.parametrize("show", [str, *SHOWN.values()], ids=["str", *SHOWN.keys()])
def test_a_secret_shows_what_it_is_told_to(show: Callable[[Any], str]) -> None:
    if show is not SHOWN["traceback"]:
        assert "<hidden>" in show(Secret("s3cret"))
        assert "http://db" in show(Secret("http://pw@db", shown="http://db"))


def test_a_secret_is_no_text_and_equals_its_text() -> None:
    secret = Secret("root:Milvus")
    assert not isinstance(secret, str)
    assert (secret, "root:Milvus") == ("root:Milvus", Secret(secret))
    assert secret != "root:other"
    assert secret != 1
    assert {secret: 1}["root:Milvus"]
    assert (bool(secret), bool(Secret(""))) == (True, False)
    assert repr([secret.reveal()]) == "[<hidden>]"
    assert Secret(1234).reveal() == "1234"


@pytest.mark.parametrize(
    "serialise",
    [
        lambda value: json.dumps(value, default=str),
        lambda value: json.dumps(value, default=asdict),
        lambda value: json.dumps(value, default=vars),
        lambda value: json.dumps(value, default=lambda each: each.__getstate__()),
        lambda value: json.dumps(asdict(value), default=lambda each: each.__getstate__()),
        lambda value: orjson.dumps(value, default=str).decode(),
        lambda value: pydantic_core.to_json(value, serialize_unknown=True).decode(),
        lambda value: pydantic_core.to_json(value, fallback=str).decode(),
        lambda value: repr(pickle.dumps(value)),
        lambda value: repr(copy.deepcopy(value)),
    ],
)
def test_no_serializer_finds_a_secret(serialise: Callable[[object], str]) -> None:
    try:
        shown = serialise(Account(Secret("s3cret")))
    except TypeError as error:
        shown = str(error)
    assert "s3cret" not in shown


def test_a_copy_of_a_secret_is_the_secret_and_a_pickle_of_it_a_mask() -> None:
    secret = Secret("s3cret")
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    assert pickle.loads(pickle.dumps(secret)) == MASK  # noqa: S301 - our own


# --- a URI ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://db:19530", "http://db:19530"),
        ("http://root:Milvus@db:19530/sales", f"http://{MASK}@db:19530/sales"),
        ("http://key@db", f"http://{MASK}@db"),
        ("http://root:p@ss@db", f"http://{MASK}@db"),
        ("http://root:p/a?s#s@db", f"http://{MASK}@db"),
        ("http://root:p//a@db", f"http://{MASK}@db"),
        ("root:Milvus@db:19530", f"{MASK}@db:19530"),
        ("//root:Milvus@db", f"//{MASK}@db"),
        ("http://db?token=s3cret", f"http://db?{MASK}"),
        ("http://root:Milvus@db/x?token=s3cret#more", f"http://{MASK}@db/x?{MASK}"),
        ("http://db#s3cret\nmore", f"http://db#{MASK}"),
        ("./milvus.db", "./milvus.db"),
        ("", ""),
    ],
)
def test_a_uri_is_shown_without_userinfo_and_query(uri: str, shown: str) -> None:
    assert redact_uri(uri) == shown


@given(password=st.text(min_size=8), user=st.text(), rest=st.text("abc/.:", max_size=5))
def test_no_password_survives_in_a_uri(password: str, user: str, rest: str) -> None:
    assume(password not in f"http://{MASK}@db{rest}")
    assert password not in redact_uri(f"http://{user}:{password}@db{rest}")


# --- any text --------------------------------------------------------------------------------


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded but for slashes": quote,
    "percent-encoded in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f"),
    "percent-encoded as a form": quote_plus,
    "percent-encoded as JavaScript does": lambda text: quote(text, safe="!'()*"),
    "percent-encoded as Java does": lambda text: quote_plus(text, safe="*"),
    "percent-encoded as userinfo": lambda text: quote(text, safe="!$&'()*+,;="),
    "repr": repr,
    "repr beside both quotes": lambda text: repr(f"'\"{text}"),
    "repr of repr": lambda text: repr(repr(f"'\"{text}")),
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps(text))),
    "JSON with escaped slashes": lambda text: json.dumps(text).replace("/", r"\/"),
    "JSON for HTML": lambda text: json.dumps(text).replace("&", r"\u0026").replace("+", r"\u002B"),
    "repr of JSON": lambda text: repr(json.dumps(f"'{text}")),
    "percent-encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "percent-encoded in JSON": lambda text: json.dumps(quote(text, safe="")),
    "HTML": html.escape,
    "HTML without quotes": lambda text: html.escape(text, quote=False),
    "HTML with numbers": lambda text: "".join(f"&#{ord(c):04};" if c in MARKS else c for c in text),
    "an XML attribute": lambda text: saxutils.escape(text, {'"': "&quot;", "'": "&apos;"}),
    "HTML in JSON": lambda text: json.dumps(html.escape(text)),
    "JavaScript": lambda text: "".join(f"\\x{ord(c):02x}" if c in MARKS else c for c in text),
    "a word of a shell": lambda text: shlex.quote(f" {text}"),
    "a word of a shell, as people quote": lambda text: text.replace("'", r"'\''"),
    "a word of a shell in JSON": lambda text: json.dumps(shlex.quote(f" {text}")),
    "YAML and SQL": lambda text: text.replace("'", "''"),
    "CSV": lambda text: text.replace('"', '""'),
}

MARKS = frozenset(string.punctuation) - frozenset("-_.~")

WHOLE_FORMS: dict[str, Callable[[str], str]] = {
    "base64": base64_of,
    "base64 of user and password": lambda text: base64_of(f"root:{text}"),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 without padding": lambda text: base64_of(text).rstrip("="),
    "base64, percent-encoded": lambda text: quote(base64_of(text), safe=""),
    "base64 in JSON with escaped slashes": lambda text: base64_of(text).replace("/", r"\/"),
}

ALL_FORMS = FORMS | WHOLE_FORMS


def masker(*secrets: str) -> Masker:
    return Masker(lambda: secrets)


@pytest.mark.parametrize("form", ALL_FORMS.values(), ids=ALL_FORMS.keys())
@pytest.mark.parametrize(
    "secret", [SECRET, "abcdefgh", "???>>>~~~", '"\\/"\\/"\\////', "%41&amp;%25-key"]
)
def test_a_secret_is_masked_in_every_form(secret: str, form: Callable[[str], str]) -> None:
    encoded = form(secret)
    masked = masker(f"root:{secret}").mask(f"before {encoded} after")
    assert_gone(secret, encoded, masked)
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert masked.count(MASK) == 1


@pytest.mark.parametrize(
    "secret", [SECRET, "пароль-你好", "pass\N{GRINNING FACE}-word", "key-word\U0010fffd"]
)
@pytest.mark.parametrize(
    "entity", ["&#{};", "&#{:04};", "&#{:012};", "&#x{:x};", "&#X{:06X};", "&#{}", "&#x{:x}"]
)
def test_a_secret_is_masked_in_every_form_of_numeric_entities(secret: str, entity: str) -> None:
    encoded = "".join(entity.format(ord(char)) for char in secret)
    assert masker(secret).mask(f"<p>{encoded}</p>") == f"<p>{MASK}</p>"
    in_utf16 = memoryview(secret.encode("utf-16")).cast("H")[1:]
    encoded = "".join(entity.format(unit) for unit in in_utf16)
    assert masker(secret).mask(f"<p>{encoded}</p>") == f"<p>{MASK}</p>"


@pytest.mark.parametrize("char", ["\N{GRINNING FACE}", "\U00020bb7", "\U0010fffd"])
def test_a_secret_is_masked_in_the_long_escapes_of_python(char: str) -> None:
    assert masker(f"s3cr{char}et").mask(ascii(f"s3cr{char}et")) == f"'{MASK}'"


@pytest.mark.parametrize("end", [";", ""])
def test_a_secret_is_masked_in_named_entities_with_and_without_a_semicolon(end: str) -> None:
    encoded = html.escape(SECRET).replace("&#x27;", "&apos;").replace(";", end)
    assert_gone(SECRET, encoded, masker(SECRET).mask(encoded))


@pytest.mark.parametrize("text", ["&#1114112;", "&#xFFFFFF;", f"&#{'9' * 5000};", "&#x;", "&#;"])
def test_an_entity_that_is_no_character_is_left_alone(text: str) -> None:
    assert masker(SECRET).mask(text) is text
    assert masker(SECRET).mask(f"{text} {SECRET}") == f"{text} {MASK}"


@pytest.mark.parametrize("form", WHOLE_FORMS.values(), ids=WHOLE_FORMS.keys())
@given(data=st.data())
def test_no_encoded_secret_survives_in_any_text(
    form: Callable[[str], str], data: st.DataObject
) -> None:
    secret, before, after = data.draw(SECRETS), data.draw(st.text()), data.draw(st.text())
    encoded = form(secret)
    masked = masker(f"root:{secret}").mask(before + encoded + after)
    assert MASK in masked
    assert_gone(secret, encoded, masked)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@given(data=st.data())
def test_no_secret_survives_in_any_text_that_is_encoded_with_it(
    form: Callable[[str], str], data: st.DataObject
) -> None:
    around = st.text(st.characters(codec="utf-8")) | st.text("\\%25&#x27;'u041")
    secret, before, after = data.draw(SECRETS), data.draw(around), data.draw(around)
    masked = masker(secret).mask(form(before + secret + after))
    assert MASK in masked
    assert_gone(secret, inside(form, secret), masked)


def is_long_enough(secret: str) -> bool:
    """Tell whether a secret has enough besides what encoders add, double, or leave out."""
    decoded = re.sub(r"%[0-9a-f]{2}|&#?\w+;?|\\+[ux]\w+", "x", secret, flags=re.IGNORECASE)
    return sum(char not in "\"'\\" for char in decoded) >= SHORTEST


# A secret with the mask's own character can come about beside a mask.
PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="*")
SECRETS = st.text(PRINTABLE, min_size=8, max_size=40).filter(is_long_enough)


def inside(form: Callable[[str], str], secret: str) -> str:
    """What a form writes for a secret in the midst of a text."""
    left, right = form("'\"_").split("_")
    return form(f"'\"{secret}").removeprefix(left).removesuffix(right)


def assert_gone(secret: str, encoded: str, masked: str) -> None:
    assert encoded not in masked
    assert secret not in masked


@given(secret=SECRETS, text=st.text())
def test_a_text_without_secrets_is_returned_as_it_is(secret: str, text: str) -> None:
    assume(not any(inside(form, secret) in text for form in FORMS.values()))
    assert masker(secret).mask(text) is text


def test_without_secrets_every_text_is_returned_as_it_is() -> None:
    assert masker().mask(SECRET) is SECRET


def test_a_text_that_is_more_than_text_is_returned_as_it_is() -> None:
    hidden = Hidden("nothing secret")
    assert masker("s3cret-key").mask(hidden) is hidden


def test_of_a_pair_the_password_is_a_secret_too_and_the_user_is_none() -> None:
    assert masker("root:s3cret:x").mask("root s3cret:x root:s3cret:x") == f"root {MASK} {MASK}"


def test_the_longest_secret_is_masked_first() -> None:
    assert (
        masker("s3cret", "s3cret-and-more", "more-and-s3cret-and-more").mask(
            "s3cret-and-more more-and-s3cret-and-more s3cret-and"
        )
        == f"{MASK} {MASK} {MASK}-and"
    )


def test_a_secret_that_is_too_short_is_left_alone() -> None:
    assert masker("x" * (SHORTEST - 1), "u:pw").mask("xxxxx u:pw") == "xxxxx u:pw"
    assert masker("x" * SHORTEST).mask("xxxxxx") == MASK


def test_a_secret_of_little_but_quotes_is_masked_as_it_is_written() -> None:
    row = "\\" * 8
    assert masker(row, "'a'b'c'").mask(f"{row} 'a'b'c'") == f"{MASK} {MASK}"
    assert masker("'a'b'c'").mask("abc") == "abc"


def test_the_password_that_every_milvus_begins_with_is_masked_in_its_pair_only() -> None:
    shown = masker("root:Milvus").mask("root:Milvus cm9vdDpNaWx2dXM= is not Milvus")
    assert shown == f"{MASK} {MASK}= is not Milvus"


@given(
    st.lists(
        SECRETS | st.text("ab\\%/", min_size=8, max_size=12).filter(is_long_enough),
        min_size=2,
        max_size=9,
    )
)
def test_each_of_many_secrets_is_masked(secrets: list[str]) -> None:
    mask = masker(*(f"root:{secret}" for secret in secrets)).current()
    for secret in secrets:
        for form in ALL_FORMS.values():
            assert_gone(secret, form(secret), mask(f"<{form(secret)}>"))


def test_many_secrets_cost_little_more_than_few() -> None:
    text = "GET http://db:9091/metrics?collection=documents 200 in 12.5 ms, as before; " * 20
    few, many = (
        masker(*(f"{n * 7919 % 9973:04}-of-many" for n in range(count))).current()
        for count in (10, 1000)
    )
    assert seconds(lambda: many(text)) < 60 * seconds(lambda: few(text))


def seconds(run: Callable[[], object]) -> float:
    """Return the time that something takes at best."""
    return min(timeit.repeat(run, number=3, repeat=5))


# --- which secrets there are -----------------------------------------------------------------

FIELDS: dict[str, tuple[dict[str, object], list[str]]] = {
    "a token": ({"token": "t", "user": "u", "db_name": "d", "timeout": 3}, ["t"]),
    "a token by another name": ({"api_key": "t"}, ["t"]),
    "a pair": ({"user": "u", "password": "p"}, ["p", "u:p"]),
    "a password without a user": ({"password": "p"}, ["p"]),
    "userinfo": ({"uri": "http://u:p%2F%zz@db/x"}, ["u:p/%zz"]),
    "userinfo that is not encoded": ({"uri": "http://u:p/?#@x@db"}, ["u:p/?#@x"]),
    "a key": ({"endpoint": "https://key@db"}, ["key"]),
    "userinfo without a scheme": ({"address": "u:p@db:19530"}, ["u:p"]),
    "of a proxy": ({"proxy": "http://u:p@proxy:3128"}, ["u:p"]),
    "no userinfo": ({"uri": "http://db:19530", "proxy": "off", "host": "db"}, []),
    "an @ in a path": ({"uri": "./a@b/milvus.db"}, []),
    "an @ elsewhere": ({"user": "me@home", "db_name": "a:b@c"}, []),
    "nothing": ({"token": None, "uri": None, "password": None, "user": "u"}, []),
}


@pytest.mark.parametrize(("fields", "secrets"), FIELDS.values(), ids=FIELDS.keys())
def test_the_secrets_of_a_connections_fields_are_found(
    fields: dict[str, object], secrets: list[str]
) -> None:
    found = [*secrets_in(fields)]
    assert found == secrets
    assert all(type(secret) is Secret for secret in found)


def test_recent_secrets_are_kept_once_and_the_oldest_forgotten() -> None:
    recent = RecentSecrets(most=3)
    recent.add(["a", "b", "a"])
    recent.add(iter(["b", "c"]))
    assert [*recent] == ["a", "b", "c"]
    recent.add(["d"])
    assert [*recent] == ["b", "c", "d"]
    assert repr([*recent]) == "[<hidden>, <hidden>, <hidden>]"


def test_recent_secrets_may_be_added_while_they_are_read() -> None:
    recent = RecentSecrets()
    recent.add(["a", "b"])
    for secret in recent:
        recent.add([secret.reveal() * 2])
    assert [*recent] == ["a", "b", "aa", "bb"]


# --- secrets that change ---------------------------------------------------------------------


def test_a_changed_secret_counts_from_the_next_text_on() -> None:
    secrets = ["first-s3cret"]
    changing = Masker(lambda: secrets)
    assert changing.mask("first-s3cret second-s3cret") == f"{MASK} second-s3cret"
    secrets[:] = ["second-s3cret"]
    assert changing.mask("first-s3cret second-s3cret") == f"first-s3cret {MASK}"


def test_one_set_of_secrets_holds_for_all_the_texts_of_an_event() -> None:
    asked: list[None] = []
    counted = Masker(lambda: asked.append(None) or ["some-s3cret"])  # type: ignore[func-returns-value]  # counts
    mask = counted.current()
    assert [mask("some-s3cret"), mask("x")] == [MASK, "x"]
    assert len(asked) == 1


def test_nothing_is_compiled_again_while_the_secrets_stay_the_same() -> None:
    steady = Masker(lambda: iter(["one-s3cret", "two-s3cret"]))
    assert steady.current() is steady.current()


def test_a_provider_that_fails_leaves_the_secrets_that_were_known() -> None:
    working = [True]

    def secrets() -> list[str]:
        if not working.pop():
            raise RuntimeError("some-s3cret")
        return ["some-s3cret"]

    fragile = Masker(secrets)
    assert fragile.mask("some-s3cret") == MASK
    working.append(False)
    assert fragile.mask("some-s3cret x") == f"{MASK} x"


def test_a_provider_that_never_worked_loses_no_text() -> None:
    def secrets() -> list[str]:
        raise RuntimeError

    assert Masker(secrets).mask("x") == "x"


def test_a_provider_that_fails_half_way_loses_no_text() -> None:
    def secrets() -> Iterator[str]:
        yield "some-s3cret"
        raise RuntimeError

    assert Masker(secrets).mask("x") == "x"


def test_an_interruption_is_not_swallowed() -> None:
    def secrets() -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Masker(secrets).mask("x")


@pytest.mark.parametrize(
    "secret", ["pässwörd-é", "пароль-пароль", "key-\U0001f600-key", "\udc80" * 8]
)
@pytest.mark.parametrize(
    "form", [str, repr, ascii, json.dumps, lambda text: quote(text, errors="surrogatepass")]
)
def test_a_secret_that_is_not_ascii_is_masked(secret: str, form: Callable[[str], str]) -> None:
    encoded = form(secret)
    assert encoded.strip("'\"") not in masker(secret).mask(f"x {encoded} y")


def test_a_masker_shows_no_secret() -> None:
    with_cached_replies = masker("some-s3cret")
    with_cached_replies.mask("x")
    shown = [
        repr(with_cached_replies),
        repr(vars(with_cached_replies)),
        repr(with_cached_replies.current()),
        repr(with_cached_replies.mask),
    ]
    assert "some-s3cret" not in "".join(shown)
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(with_cached_replies)
    assert "some-s3cret" not in str(caught.value)


@pytest.mark.parametrize("secret", ["\\" * 20, '\\"' * 10, '"' * 20, "a\\" * 10, "/%2F" * 5])
@pytest.mark.parametrize("row", ["\\", '\\"', '"', "a\\", "%5C", '\\\\\\\\"', "%2F", "a\\\\"])
def test_no_text_is_slow_to_mask(secret: str, row: str) -> None:
    text = (row * 40 + "x") * 1000
    began = time.thread_time()
    masker(secret + "y").mask(text)
    assert time.thread_time() - began < 10
