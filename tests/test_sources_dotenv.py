"""A dotenv file: what is read from it, on which line, and what is wrong with it."""

import io
import os
import time
import traceback
import tracemalloc

import pytest
from dotenv.parser import parse_stream
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zconfig._origin import Origin
from zconfig._redaction import Hidden, Secret
from zconfig._sources.base import FileStatus, is_key
from zconfig._sources.dotenv import parse_lines, read_dotenv

SECRET = "s3cret-pa55"


@pytest.fixture
def read(tmp_path):
    def read(content, environ=None):
        path = tmp_path / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)
        return read_dotenv(path, environ or {}, shown=".env")

    return read


def values(reading):
    return {entry.key: str(entry.value.reveal()) for entry in reading.entries}


def values_in(assignments):
    return [value for a in assignments if isinstance(value := a.read(), Hidden)]


def found(reading):
    return [(p.code, p.origin.key, p.origin.line, p.severity) for p in reading.problems]


def test_our_keys_are_read_as_written_with_their_lines(read):
    reading = read(
        "# settings\n\nFOO=1\nZILLIZ_URI=a\n\n\n# more\nzilliz-prod.uri=b\nZCONFIG_STRICT=1"
    )

    assert [(e.key, e.value, e.origin.line) for e in reading.entries] == [
        ("ZILLIZ_URI", "a", 4),
        ("zilliz-prod.uri", "b", 8),
        ("ZCONFIG_STRICT", "1", 9),
    ]
    assert str(reading.entries[0].origin) == "ZILLIZ_URI (.env:4)"
    assert (reading.name, reading.problems) == (".env", ())
    assert reading.files == (FileStatus(".env", "read"),)
    assert all(isinstance(entry.value, Secret) for entry in reading.entries)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("ZILLIZ_X=a", "a"),
        ("ZILLIZ_X = a ", "a"),
        ("  ZILLIZ_X=a", "a"),
        ("export ZILLIZ_X=a", "a"),
        ("export\tZILLIZ_X='a'", "a"),
        ("ZILLIZ_X=", ""),
        ("ZILLIZ_X=''", ""),
        ('ZILLIZ_X=""', ""),
        ("ZILLIZ_X=a # comment", "a"),
        ("ZILLIZ_X= # comment", ""),
        ("ZILLIZ_X='a' # comment", "a"),
        ("ZILLIZ_X=a#b", "a#b"),
        ("ZILLIZ_X='a # b'", "a # b"),
        ("ZILLIZ_X=a=b==", "a=b=="),
        ("ZILLIZ_X=a b", "a b"),
        ("ZILLIZ_X=a$b", "a$b"),
        ("ZILLIZ_X=pa$$word", "pa$$word"),
        ("ZILLIZ_X=$HOME", "$HOME"),
        ('ZILLIZ_X="$HOME"', "$HOME"),
        ("ZILLIZ_X='${HOME}'", "${HOME}"),
        (r"ZILLIZ_X='it\'s'", "it's"),
        ("ZILLIZ_X=it's", "it's"),
        (r'ZILLIZ_X="say \"a\""', 'say "a"'),
        (r'ZILLIZ_X="a\tb"', "a\tb"),
        (r"ZILLIZ_X=a\tb", r"a\tb"),
        ("ZILLIZ_X=grüße", "grüße"),
        ("ZILLIZ_X=user:pass:word", "user:pass:word"),
        ("ZILLIZ_X=$${HOME}", "${HOME}"),
        ("ZILLIZ_X=${HOME}/x", "/root/x"),
        ('ZILLIZ_X="${HOME}/x"', "/root/x"),
        ("ZILLIZ_X=${UNSET:-a}", "a"),
        ("ZILLIZ_X=${UNSET:-a b} # comment", "a b"),
        ("'ZILLIZ_X'=a", "a"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nFOO=1\n"])
def test_a_value_is_what_compose_makes_of_it_but_for_the_bare_dollar(read, line, value, end):
    reading = read(line + end, {"HOME": "/root"})

    assert (values(reading), reading.problems) == ({"ZILLIZ_X": value}, ())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_count_with_any_line_end(read, end):
    reading = read(f"\ufeffFOO=1{end}{end}# c{end}ZILLIZ_A=a{end}ZILLIZ_B='b'{end}")

    assert [(e.key, e.value, e.origin.line) for e in reading.entries] == [
        ("ZILLIZ_A", "a", 4),
        ("ZILLIZ_B", "b", 5),
    ]


def test_only_line_ends_end_a_line(read):
    reading = read("ZILLIZ_A='a\u2028\x0b\x85b'\nZILLIZ_B=b")

    assert values(reading) == {"ZILLIZ_A": "a\u2028\x0b\x85b", "ZILLIZ_B": "b"}
    assert reading.entries[1].origin.line == 2


def test_a_quoted_value_may_go_on_over_lines(read):
    reading = read('CERT="-----BEGIN\nabc=\n-----END" # c\nZILLIZ_X="a\nb"\n\nZILLIZ_Y=${CERT}')

    assert values(reading) == {
        "ZILLIZ_X": "a\nb",
        "ZILLIZ_Y": "-----BEGIN\nabc=\n-----END",
    }
    assert [entry.origin.line for entry in reading.entries] == [4, 7]
    assert reading.problems == ()


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize(
    "after",
    [
        "ZILLIZ_B=b\nZILLIZ_C=c\nZILLIZ_D=d\n",
        "ZILLIZ_B=b\nZILLIZ_C=c\nZILLIZ_D=Qd Q\n",
        "ZILLIZ_B=QbQ\nZILLIZ_C=QcQ\nZILLIZ_D=QdQ",
        "export ZILLIZ_B=b\n\nZILLIZ_C=c\nZILLIZ_D=Q\nQ",
        "FOO=QfooQ\nZILLIZ_B=b\nZILLIZ_C=c\nZILLIZ_D=d",
    ],
)
def test_a_quote_that_is_not_closed_costs_its_own_line_only(read, quote, after):
    reading = read(f"# c\nZILLIZ_A={quote}{SECRET}\n" + after.replace("Q", quote))

    assert values(reading).keys() == {"ZILLIZ_B", "ZILLIZ_C", "ZILLIZ_D"}
    assert found(reading) == [("unbalanced_quote", "ZILLIZ_A", 2, "error")]
    assert SECRET not in repr(reading)


def test_a_foreign_quote_that_is_not_closed_is_a_warning(read):
    reading = read("FOO=\"bar\nZILLIZ_A=a\nBAR='\n")

    assert values(reading) == {"ZILLIZ_A": "a"}
    assert found(reading) == [
        ("unbalanced_quote", "FOO", 1, "warning"),
        ("unbalanced_quote", "BAR", 3, "warning"),
    ]


@pytest.mark.parametrize(
    ("line", "code", "key"),
    [
        ("ZILLIZ_X", "missing_equals", "ZILLIZ_X"),
        ("export ZILLIZ_X", "missing_equals", "ZILLIZ_X"),
        (f"ZILLIZ_X {SECRET}", "bad_line", "ZILLIZ_X"),
        (f"ZILLIZ_X: {SECRET}", "bad_line", "ZILLIZ_X"),
        (f"ZILLIZ_X:{SECRET}", "bad_line", "ZILLIZ_X"),
        (f"ZILLIZ_X:{SECRET}=x", "bad_line", "ZILLIZ_X"),
        (f"ZILLIZ_X='a'{SECRET}", "bad_line", "ZILLIZ_X"),
        (f'ZILLIZ_X="a" {SECRET}', "bad_line", "ZILLIZ_X"),
        (f"ZILLIZ_X='{SECRET}", "unbalanced_quote", "ZILLIZ_X"),
        (f"ZILLIZ_X={SECRET}${{", "bad_expansion", "ZILLIZ_X"),
        (f"ZILLIZ_X={SECRET}${{a b}}", "bad_expansion", "ZILLIZ_X"),
        (f"ZILLIZ_X={SECRET}${{UNSET}}", "undefined_variable", "ZILLIZ_X"),
    ],
)
def test_a_bad_line_of_ours_is_a_problem_that_tells_no_value(read, line, code, key):
    reading = read(f"ZILLIZ_BEFORE=1\n\n{line}\nZILLIZ_AFTER=2\n")

    assert found(reading) == [(code, key, 3, "error")]
    assert SECRET not in repr(reading)
    assert values(reading) == {"ZILLIZ_BEFORE": "1", "ZILLIZ_AFTER": "2"}


@pytest.mark.parametrize(
    "line",
    [
        "set ZILLIZ_URI={}",
        'SET "ZILLIZ_URI={}"',
        "set -x ZILLIZ_URI {}",
        "set\t-gx\tZILLIZ_URI\t{}",
        "setenv ZILLIZ_URI {}",
        'declare -x ZILLIZ_URI="{}"',
        "$env:ZILLIZ_URI = '{}'",
        '$Env:ZILLIZ_URI="{}"',
        "- ZILLIZ_URI={}",
        "  - ZILLIZ_URI: {}",
        "-e ZILLIZ_URI={}",
        '"ZILLIZ_URI"="{}"',
        '"ZILLIZ_URI": "{}",',
        '{{"ZILLIZ_URI": "{}"}}',
        "{{ZILLIZ_URI: {}}}",
        "ENV ZILLIZ_URI={}",
        "ENV ZILLIZ_URI {}",
        "env FOO=1 ZILLIZ_URI={}",
        "'ZILLIZ_URI={}'",
        "'ZILLIZ_URI={}",
        '"ZILLIZ_URI={}"',
    ],
)
def test_a_line_that_names_a_setting_and_does_not_assign_it_is_a_problem(read, line):
    [problem] = read(f"# set ZILLIZ_A=\n{line.format(SECRET)}\n").problems

    assert str(problem) == (
        "ZILLIZ_URI (.env:2): the line is not of the form KEY=value; "
        "write ZILLIZ_URI=… without other characters before or in the name"
    )
    assert (problem.code, problem.severity) == ("bad_line", "error")
    assert SECRET not in repr(problem)


@pytest.mark.parametrize(
    ("name", "meant", "odd"),
    [
        ("ZILLIZ_\u200bTOKEN", "ZILLIZ_TOKEN", "U+200B (ZERO WIDTH SPACE)"),
        ("\u200bZILLIZ_TOKEN", "ZILLIZ_TOKEN", "U+200B (ZERO WIDTH SPACE)"),
        ("ZILLIZ_TOKEN\u200b", "ZILLIZ_TOKEN", "U+200B (ZERO WIDTH SPACE)"),
        ("ZIL\xadLIZ_TOKEN", "ZILLIZ_TOKEN", "U+00AD (SOFT HYPHEN)"),
        ("export ZILLIZ_\ufeffTOKEN", "ZILLIZ_TOKEN", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        ("ZILLIZ_\xa0TOKEN ", "ZILLIZ_TOKEN", "U+00A0 (NO-BREAK SPACE)"),
        ("ZILLIZ\uff3fTOKEN", "ZILLIZ_TOKEN", "U+FF3F (FULLWIDTH LOW LINE)"),
        ("ZILLIZ_\u0422OKEN", "ZILLIZ_TOKEN", "U+0422 (CYRILLIC CAPITAL LETTER TE)"),
        ("MILVUS_T\u041eKEN", "MILVUS_TOKEN", "U+041E (CYRILLIC CAPITAL LETTER O)"),
        ("zilliz_t\u043ek\u200ben", "zilliz_token", "LETTER O) and U+200B (ZERO WIDTH SPACE)"),
    ],
)
@pytest.mark.parametrize("quote", ["", "'"])
def test_a_name_with_a_character_that_looks_like_none_or_another_is_told(
    read, name, meant, odd, quote
):
    [problem] = read(f"FOO=1\n{name}={quote}{SECRET}\xfc\u200b{quote}\n").problems

    assert str(problem).startswith(f"{meant} (.env:2): the name contains U+")
    assert str(problem).endswith(
        f"{odd}; write {meant}=… without other characters before or in the name"
    )
    assert (problem.code, problem.severity) == ("bad_line", "error")
    assert SECRET not in repr(problem)


@pytest.mark.parametrize(
    "line",
    [
        "FOO: ${ZILLIZ_URI}",
        "FOO: $ZILLIZ_URI",
        "FOO=ZILLIZ_URI",
        "FOO='{\"ZILLIZ_URI\": 1}'",
        "FOO='\nset ZILLIZ_URI=x\n'",
        "MY_ZILLIZ_URI: x",
        "source zilliz_env/bin/activate",
        "# set ZILLIZ_URI=x",
    ],
)
def test_a_line_that_only_mentions_a_setting_is_no_problem(read, line):
    assert read(f"{line}\n").problems == ()


@pytest.mark.parametrize("line", ["export ZILLIZ_A", "ZILLIZ_A: b", "set ZILLIZ_A=b"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_line_that_is_no_assignment_does_not_cost_the_one_that_is(read, line, order):
    reading = read("\n".join(["ZILLIZ_A=a", line][::order]))

    assert values(reading) == {"ZILLIZ_A": "a"}
    assert [(p.code in {"bad_line", "missing_equals"}, p.severity) for p in reading.problems] == [
        (True, "warning")
    ]


@pytest.mark.parametrize(
    "line",
    ["FOO", "FOO: bar", "[section]", "=", "FOO='a'b", "FOO=${UNSET}", "FOO=${", "ZILLIZ", "💥"],
)
def test_lines_of_others_are_their_own_business(read, line):
    reading = read(f"{line}\nZILLIZ_A=a\n")

    assert (values(reading), reading.problems) == ({"ZILLIZ_A": "a"}, ())


def test_a_reference_is_looked_up_in_the_environment_and_then_above(read):
    reading = read(
        "A=file\nB=file\nZILLIZ_X=${A} ${B} ${ZILLIZ_H:-none}\nZILLIZ_H=h\nZILLIZ_Y=${ZILLIZ_H}",
        {"A": "environment"},
    )

    assert values(reading) == {
        "ZILLIZ_X": "environment file none",
        "ZILLIZ_H": "h",
        "ZILLIZ_Y": "h",
    }


def test_a_value_from_the_environment_is_not_expanded_again(read):
    assert values(read("ZILLIZ_X=${A}", {"A": "${B}"})) == {"ZILLIZ_X": "${B}"}


def test_an_undefined_variable_matters_through_another_key_as_well(read):
    reading = read("FOO=x${UNSET}\nBAR=${FOO}\nIDLE=${ALSO}\nZILLIZ_X=${BAR}\nZILLIZ_Y=${BAR:-y}\n")

    assert values(reading) == {"ZILLIZ_Y": "y"}
    [problem] = reading.problems
    assert str(problem) == (
        "ZILLIZ_X (.env:4): UNSET is not defined (through FOO (.env:1)); set UNSET, write "
        "${UNSET:-default}, or enclose the value in single quotes to keep it literal"
    )


def test_a_broken_line_matters_to_the_keys_that_refer_to_it(read):
    reading = read("FOO='a\nZILLIZ_X=${FOO}\n")

    assert found(reading) == [
        ("unbalanced_quote", "FOO", 1, "warning"),
        ("unbalanced_quote", "ZILLIZ_X", 2, "error"),
    ]


def test_a_referenced_variable_that_is_not_text_is_a_problem(read):
    reading = read("ZILLIZ_X=${A}\nZILLIZ_Y=y", {"A": "\udcff"})

    assert found(reading) == [("not_text", "ZILLIZ_X", 1, "error")]
    assert values(reading) == {"ZILLIZ_Y": "y"}


def test_the_last_of_two_equal_keys_counts(read):
    reading = read("ZILLIZ_A=1\nZILLIZ_B=b\nZILLIZ_A=${UNSET}\nZILLIZ_A=2\nFOO=1\nFOO=2\n")

    assert [(e.key, e.value, e.origin.line) for e in reading.entries] == [
        ("ZILLIZ_B", "b", 2),
        ("ZILLIZ_A", "2", 4),
    ]
    assert found(reading) == [
        ("duplicate_key", "ZILLIZ_A", 3, "warning"),
        ("duplicate_key", "ZILLIZ_A", 4, "warning"),
    ]
    assert (
        reading.problems[1].message == "the key is already set on line 3; line 4 takes precedence"
    )


LARGE = "x" * 60_000


@pytest.mark.parametrize(
    "lines",
    [
        ["A=xxxxxxxxxx", *["A=${A}${A}"] * 500, "ZILLIZ_X=${A}"],
        [f"A={LARGE}", "ZILLIZ_X=" + "${A}" * 2_000],
        [f"A={LARGE}", "ZILLIZ_X=" + "${A:+" * 2_000 + "${A}" * 2_000 + "}" * 2_000],
        [f"A={LARGE}", *(f"B{i}=${{A}}" for i in range(2_000)), "ZILLIZ_X=${B1999}"],
        [f"A={LARGE}", *(f"ZILLIZ_A{i}_URI=${{A}}" for i in range(2_000))],
    ],
    ids=["doubled", "in one value", "nested", "in others' values", "in ours"],
)
def test_values_that_refer_to_one_another_do_not_fill_the_memory(read, lines):
    text = "\n".join(lines)
    tracemalloc.start()
    try:
        reading = read(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert {p.code for p in reading.problems} <= {"too_large"}
    assert sum(len(entry.value.reveal()) for entry in reading.entries) <= 1024 * 1024
    assert peak < 16 * 1024 * 1024


def test_a_sum_of_values_that_is_too_large_costs_the_values_beyond_it(read):
    lines = [f"A={LARGE}", *(f"ZILLIZ_A{i}_URI=${{A}}" for i in range(18)), "ZILLIZ_URI=x"]

    reading = read("\n".join(lines))

    assert len(reading.entries) == 17 + 1
    assert str(reading.problems[0]) == (
        "ZILLIZ_A17_URI (.env:19): the values of this file are longer than 1048576 characters "
        "when expanded; write it without ${NAME}"
    )


def test_lines_that_cannot_matter_are_not_parsed(read, monkeypatch):
    monkeypatch.setattr("zconfig._sources.dotenv.parse_stream", None)

    reading = read("b\nb c\n=\nFOO='a'\nBAR=\"x y\" # c\nBAZ='\nZILLIZ_A=a\n")

    assert values(reading) == {"ZILLIZ_A": "a"}


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\n\ufeff", " \ufeff", "\ufeff # c"])
def test_a_line_that_is_only_a_byte_order_mark_is_blank(read, mark):
    reading = read(f"ZILLIZ_A=a\n{mark}\nZILLIZ_B=b\n{mark}")

    assert (values(reading), reading.problems) == ({"ZILLIZ_A": "a", "ZILLIZ_B": "b"}, ())


def test_a_file_that_was_put_together_of_two_with_byte_order_marks_is_read(read):
    reading = read("\ufeffZILLIZ_A=a\n\ufeffZILLIZ_B=b\n\ufeffexport ZILLIZ_C='c'\n")

    assert values(reading) == {"ZILLIZ_A": "a", "ZILLIZ_B": "b", "ZILLIZ_C": "c"}
    assert reading.problems == ()


def test_a_traceback_with_locals_tells_no_value(read, monkeypatch):
    def fail(_stream):
        raise RuntimeError

    monkeypatch.setattr("zconfig._sources.dotenv.parse_stream", fail)
    lines = [f"{key}={quote}{SECRET}{quote}" for key in ("ZILLIZ_A", "FOO") for quote in "'\" "]
    with pytest.raises(RuntimeError) as caught:
        read("\n".join(reversed(lines)))

    stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = [frame for frame in stack if "/_sources/" in frame.filename]
    assert len(ours) > 3
    assert SECRET not in str([frame.locals for frame in ours])


BLANKS = " \t" * 50_000


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (f"#{BLANKS}x", None),
        (f"# ZILLIZ_X=a{BLANKS}b", None),
        (f"{BLANKS}# c", None),
        (f"ZILLIZ_X=a{BLANKS}", "a"),
        (f"ZILLIZ_X=a{BLANKS}b", f"a{BLANKS}b"),
        (f"ZILLIZ_X=a{BLANKS}# c{BLANKS}d", "a"),
        (f"export ZILLIZ_X={BLANKS}a{BLANKS}b # c", f"a{BLANKS}b"),
        (f"'ZILLIZ_X'=a{BLANKS}b", f"a{BLANKS}b"),
        (f"'ZILLIZ X'=a{BLANKS}b", None),
        (f"ZILLIZ_X='a{BLANKS}b'{BLANKS}# c", f"a{BLANKS}b"),
    ],
    ids=range(10),
)
def test_a_line_with_very_many_blanks_is_read_in_linear_time(line, value):
    # Where a row of blanks takes the square of its length, this takes more than a minute.
    started = time.process_time()
    assignments = list(parse_lines(Hidden(line)))

    assert time.process_time() - started < 5
    assert list(map(str, values_in(assignments))) == ([value] if value else [])


def test_an_absent_file_is_no_problem(tmp_path):
    reading = read_dotenv(tmp_path / ".env", {}, shown=".env")

    assert (reading.entries, reading.problems) == ((), ())
    assert reading.files == (FileStatus(".env", "absent"),)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.mkdir(), "is_directory"),
        (os.mkfifo, "not_regular"),
        (lambda path: path.symlink_to(path.name), "loop"),
        (lambda path: path.write_bytes(f"ZILLIZ_TOKEN={SECRET}\xff".encode("latin-1")), "not_text"),
        (lambda path: path.write_text(f"ZILLIZ_TOKEN={SECRET}", encoding="utf-16"), "not_text"),
        (lambda path: (path.touch(), os.truncate(path, 200_000_000)), "too_large"),
        (lambda path: (path.touch(), path.chmod(0o666)), "world_writable"),
    ],
    ids=["directory", "FIFO", "loop", "binary", "UTF-16", "huge", "world-writable"],
)
def test_a_bad_file_is_one_problem(tmp_path, make, code):
    path = tmp_path / ".env"
    make(path)

    reading = read_dotenv(path, {}, shown=".env")

    [problem] = reading.problems
    assert (problem.code, problem.origin) == (code, Origin("dotenv", ".env"))
    assert (reading.entries, reading.files) == ((), (FileStatus(".env", "refused"),))
    assert SECRET not in repr(reading)


def test_a_file_that_its_group_may_write_to_is_read_with_a_warning(tmp_path):
    path = tmp_path / ".env"
    path.write_text("ZILLIZ_X=x")
    path.chmod(0o664)

    reading = read_dotenv(path, {})

    assert values(reading) == {"ZILLIZ_X": "x"}
    assert [(p.code, p.severity) for p in reading.problems] == [("group_writable", "warning")]
    assert reading.name == str(path)


def test_the_environment_is_only_asked_for_what_is_referred_to(read):
    class Guarded(dict):
        def __iter__(self):
            raise AssertionError

        keys = items = values = copy = __iter__

    assert values(read("ZILLIZ_X=${A}", Guarded({"A": "a"}))) == {"ZILLIZ_X": "a"}


texts = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts)
def test_any_value_comes_back_when_written_in_single_quotes(read, value):
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    quoted_line = f"ZILLIZ_X='{escaped}'\n"

    reading = read(f"ZILLIZ_A=a\n{quoted_line}ZILLIZ_B=b\n")

    assert values(reading) == {"ZILLIZ_A": "a", "ZILLIZ_X": value, "ZILLIZ_B": "b"}
    assert reading.problems == ()


fragments = st.sampled_from(
    [
        "ZILLIZ_A",
        "FOO",
        "=",
        "'",
        '"',
        "\\",
        " ",
        "#",
        "\n",
        "a",
        "b-c.d",
        "export ",
        "\t",
        "é",
        ":",
    ]
)


@example("export =")
@example("A=a \t b  #c # d")
@example("'A' = #a")
@example("export A=#a #b")
@given(st.lists(fragments, max_size=25).map("".join))
def test_a_single_line_means_what_python_dotenv_says(text):
    line = text.replace("\n", "")
    read = [(a.key, a.read()) for a in parse_lines(Hidden(line))]
    ours = [(key, str(value)) for key, value in read if isinstance(value, Hidden)]

    theirs = [
        (b.key, b.value)
        for b in parse_stream(io.StringIO(line))
        if not b.error
        and b.key is not None
        and b.value is not None
        and all(character in "ZILLIZ_AFOOabcdexport-." for character in b.key)
    ]

    assert ours == theirs


@given(st.lists(fragments, max_size=40).map("".join))
def test_no_line_of_ours_is_lost(text):
    assignments = list(parse_lines(Hidden(text)))

    starts = {a.line for a in assignments}
    ours = {
        number for number, line in enumerate(text.split("\n"), 1) if is_key(line) and "=" in line
    }
    within = {n for a in assignments for n in range(a.line + 1, a.line + 1 + a.text.count("\n"))}
    assert ours - within <= starts
    assert ours.isdisjoint(within)
