"""`${NAME}` in a value, against Compose's rules and against a simple model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zconfig._origin import Origin
from zconfig._redaction import Hidden
from zconfig._sources.expansion import Expanded, expand

ORIGIN = Origin("dotenv", "ZILLIZ_URI", ".env", 3)
VALUES = {"SET": "value", "EMPTY": "", "BRACES": "${SET}}", "_1": "one"}


def look_up(name):
    return Expanded(Hidden(VALUES[name])) if name in VALUES else None


def expanded(text):
    return expand(Hidden(text), look_up, ORIGIN)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${SET}", "value"),
        ("a${SET}b${_1}c", "avaluebonec"),
        ("${EMPTY}", ""),
        ("${SET:-default}", "value"),
        ("${EMPTY:-default}", "default"),
        ("${UNSET:-default}", "default"),
        ("${SET-default}", "value"),
        ("${EMPTY-default}", ""),
        ("${UNSET-default}", "default"),
        ("${UNSET:-}", ""),
        ("${SET:+other}", "other"),
        ("${EMPTY:+other}", ""),
        ("${UNSET:+other}", ""),
        ("${SET+other}", "other"),
        ("${EMPTY+other}", "other"),
        ("${UNSET+other}", ""),
        ("${SET:?needed}", "value"),
        ("${SET?needed}", "value"),
        ("${EMPTY?needed}", ""),
        ("${UNSET:-${SET}}", "value"),
        ("${UNSET:-${ALSO:-${SET}!}}", "value!"),
        ("${UNSET:-a-b:c?d}", "a-b:c?d"),
        ("${SET:-${UNSET}}", "value"),
        ("${UNSET:+${UNSET}}", ""),
        ("${BRACES}", "${SET}}"),
        ("$${SET}", "${SET}"),
        ("$$${SET}", "$${SET}"),
    ],
)
def test_a_reference_is_replaced_as_in_compose(text, value):
    assert expanded(text) == Expanded(Hidden(value))


@pytest.mark.parametrize(
    "text", ["$", "$SET", "$$", "pa$$word", "a$", "{}", "}", "$ {SET}", "$(x)"]
)
def test_what_is_no_reference_survives(text):
    assert expanded(text) == Expanded(Hidden(text))


@pytest.mark.parametrize(
    "text", ["${UNSET}", "${UNSET?}", "${UNSET:?say so}", "${UNSET:-${UNSET}}"]
)
def test_an_undefined_variable_is_a_fault_that_names_it(text):
    [fault] = expanded(f"${{SET}}{text}").faults

    assert (fault.code, fault.origin) == ("undefined_variable", ORIGIN)
    assert fault.message.startswith("UNSET is not defined")
    assert "UNSET" in fault.remedy


def test_a_required_variable_that_is_empty_is_a_fault():
    [fault] = expanded("${EMPTY:?must be set}").faults

    assert fault.message == "EMPTY is not defined or is empty"


def test_every_undefined_variable_is_named_once():
    faults = expanded("${A}${B}${A}").faults

    assert [fault.message for fault in faults] == ["A is not defined", "B is not defined"]


@pytest.mark.parametrize(
    "text",
    [
        "${",
        "${}",
        "${SET",
        "${1}",
        "${SET:-x",
        "${SET/a/b}",
        "${SET:x}",
        "${SET }",
        "${a-${b}",
        "${-x}",
    ],
)
def test_a_malformed_reference_is_a_fault(text):
    [fault] = expanded(f"s3cret{text}").faults

    assert fault.code == "bad_expansion"
    assert "s3cret" not in str(fault)


def test_a_variable_with_a_fault_hands_it_on_unless_there_is_a_default():
    broken = expanded("${UNSET}")

    assert expand(Hidden("${X}"), lambda _: broken, ORIGIN).faults == broken.faults
    assert expand(Hidden("${X:?}"), lambda _: broken, ORIGIN).faults == broken.faults
    assert expand(Hidden("${X:-y}"), lambda _: broken, ORIGIN) == Expanded(Hidden("y"))
    assert expand(Hidden("${X+y}"), lambda _: broken, ORIGIN) == Expanded(Hidden(""))


def test_a_value_that_expands_without_bound_is_a_fault():
    value = Expanded(Hidden("x" * 40_000))

    [fault] = expand(Hidden("${A}${A}"), lambda _: value, ORIGIN).faults

    assert fault.code == "too_large"


def test_deep_nesting_is_no_recursion():
    depth = 5_000

    assert expanded("${X:-" * depth + "y" + "}" * depth) == Expanded(Hidden("y"))


literals = st.text(alphabet="ab/:-+?=@.# $", max_size=5).filter(lambda text: "${" not in text)
plain = literals.filter(lambda text: not text.endswith("$"))
names = st.sampled_from(["SET", "EMPTY", "UNSET", "_1"])
operators = st.sampled_from(["-", ":-", "+", ":+"])


def reference_model(name, operator="", word=""):
    """Return the text of a reference and the value it has."""
    value = VALUES.get(name)
    there = bool(value) if operator.startswith(":") else value is not None
    result = {"-": value if there else word[1], "+": word[1] if there else ""}[operator[-1]]
    return f"${{{name}{operator}{word[0]}}}", result


words = st.recursive(
    plain.map(lambda text: (text, text)),
    lambda inner: st.lists(
        inner | st.builds(reference_model, names, operators, inner), max_size=3
    ).map(lambda parts: ("".join(p[0] for p in parts), "".join(p[1] for p in parts))),
)


@given(words)
def test_nested_references_have_the_value_of_the_model(word):
    text, value = word

    assert expanded(text) == Expanded(Hidden(value))


@given(st.text(alphabet="${}AB:-+?x", max_size=30))
def test_any_text_is_expanded_or_has_a_fault(text):
    result = expanded(text)

    assert result.faults or "${" not in text or result.text != text or "$${" in text
