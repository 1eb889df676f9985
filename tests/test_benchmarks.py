"""The committed results: that the table says what was measured, and hides nothing."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from benchmarks import report, results
from benchmarks.lines import Curves, Goal, Line, explained, interleave, missed, ratio
from benchmarks.results import Results
from benchmarks.soak.values import Summary

# What is asked for: in which line, for whom, against whom, and how much.
GOALS = [
    ("cold-connect-cpu", Goal("zconfig", "pymilvus", at_most=0.36)),
    ("cold-connect-cpu", Goal("zconfig", "floor", at_most=1.2)),
    ("import-cpu", Goal("zconfig", "floor", at_most=1.08)),
    ("command-cpu", Goal("zconfig check", "program", at_most=1.25)),
    ("command-cpu", Goal("zconfig --help", "program", at_most=0.6)),
    ("warm-connect", Goal("zconfig", "floor", at_most=1.25)),
    ("aliases-far", Goal("zconfig, 20 aliases", "zconfig, 1 alias", at_most=1.3)),
    ("client-far", Goal("zconfig", "pymilvus", at_most=0.1)),
    ("calls-answering-1", Goal("zconfig", "floor", at_least=0.95)),
    ("calls-answering-16", Goal("zconfig", "floor", at_least=0.95)),
    ("lookup", Goal("zconfig", "dict", at_most=5)),
    ("memory", Goal("zconfig", "pymilvus", at_most=0.38)),
]
FIGURES = [
    *("cold-connect", "import", "command"),
    *("read-time", "read-memory", "connected-time", "connected-memory"),
]

FAST = Line("a", "A", "ms", {"zconfig": (9.0, 1.0, 3.0), "floor": (2.0, 2.0, 2.0)})
SLOW = replace(FAST, goals=(Goal("zconfig", "floor", at_most=1.4),))


@pytest.fixture(scope="module")
def committed() -> Results:
    return results.read()


def test_the_table_says_what_was_measured(committed: Results) -> None:
    written = (results.HERE / report.NAME).read_text(encoding="utf-8")
    assert written == report.page(committed)


def test_the_documentation_says_what_was_measured(committed: Results) -> None:
    written = report.EXPLAINED.read_text(encoding="utf-8")
    assert written == report.explained_with(written, committed)
    for each in committed.measured:
        for goal in each.goals:
            assert f" {report.wanted(goal)} | {ratio(each, goal):.2f} | " in written


def test_the_documentation_has_no_figure_but_those() -> None:
    written = report.EXPLAINED.read_text(encoding="utf-8")
    begin, end = written.index("<!-- results -->"), written.index("<!-- end -->")
    by_hand = written[:begin] + written[end:]
    assert re.findall(r"\d+(?!\d* ms\])", by_hand) == []


@pytest.mark.parametrize(("name", "goal"), GOALS, ids=str)
def test_each_goal_of_the_issue_has_its_line(committed: Results, name: str, goal: Goal) -> None:
    (line,) = (each for each in committed.measured if each.name == name)
    assert goal in line.goals


def test_what_was_to_be_measured_without_a_bound_was_measured(committed: Results) -> None:
    names = [each.name for each in committed.measured]
    assert set(FIGURES) <= set(names)
    assert len([name for name in names if name.startswith("pool-")]) == 2
    assert len(set(names)) == len(names)


def test_the_soak_was_run_with_the_lines(committed: Results) -> None:
    assert committed.soak
    assert committed.soak.minutes >= 10
    assert "calls lost" in dict(committed.soak.rows)


def test_what_was_missed_is_called_so_with_a_profile(committed: Results) -> None:
    for each in committed.measured:
        rows = [report.goal_row(each, goal) for goal in missed(each)]
        page = report.page(committed)
        assert all(row in page and row.endswith("| **missed** |") for row in rows)
        assert bool(rows) == bool(each.profile)
        assert each.profile in page


def test_the_page_says_how_the_soak_went(committed: Results) -> None:
    went = Summary(10.0, 7, (("calls that went well", "12"), ("    ping", "5")))
    well = report.page(replace(committed, measured=(), soak=went))
    assert "| 0 violations | met |" in well
    assert "at random from the seed 7" in well
    assert "calls that went well          12\n    ping                      5\n```" in well
    assert "All 1 goals are met." in well
    ill = replace(went, faults=("lost, odd: ping a at 3.0 s: refused\nand more", "late: b"))
    badly = report.page(replace(committed, measured=(), soak=ill))
    assert "| 2 violations | **missed** |" in badly
    assert "5\n\nlost, odd: ping a at 3.0 s: refused\nlate: b\n```" in badly


def test_each_line_has_its_plots_without_a_date(committed: Results) -> None:
    plots = results.HERE / "plots"
    wanted = {f"{each.name}.{kind}" for each in committed.measured for kind in ("png", "svg")}
    assert {path.name for path in plots.iterdir()} == wanted
    assert not [path for path in plots.glob("*.svg") if "<dc:date>" in path.read_text()]


def test_a_result_says_on_what_and_not_on_whose_machine(committed: Results) -> None:
    named = {"zconfig", "Python", "pymilvus", "Milvus", "grpcio", "pydantic-settings", "structlog"}
    assert named <= set(committed.versions)
    assert set(committed.machine) == {"system", "processors", "processor"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", committed.date)


def test_a_ratio_is_that_of_the_medians() -> None:
    assert ratio(FAST, Goal("zconfig", "floor")) == 1.5
    assert ratio(FAST, Goal("floor", "zconfig")) == pytest.approx(2 / 3)


def test_a_ratio_is_that_of_the_least_samples_where_the_line_says_so() -> None:
    assert ratio(replace(FAST, statistic="least"), Goal("zconfig", "floor")) == 0.5


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("zconfig", "floor", at_most=1.5), True),
        (Goal("zconfig", "floor", at_most=1.49), False),
        (Goal("zconfig", "floor", at_least=1.5), True),
        (Goal("zconfig", "floor", at_least=1.51), False),
    ],
    ids=str,
)
def test_a_bound_itself_is_met(goal: Goal, met: bool) -> None:
    assert missed(replace(FAST, goals=(goal,))) == (() if met else (goal,))


def test_a_profile_is_made_only_where_a_goal_was_missed() -> None:
    assert explained(SLOW, lambda: "imports\n").profile == "imports"
    assert explained(FAST, lambda: pytest.fail("made")).profile == ""


def test_the_page_says_what_was_missed_and_why(committed: Results) -> None:
    slow = replace(SLOW, profile="it imports too much")
    page = report.page(replace(committed, measured=(slow,), soak=None))
    assert "| zconfig at most 1.4 of floor | 1.50 | **missed** |" in page
    assert "Of 1 goals, these are missed" in page
    assert "it imports too much" in page


def test_the_page_says_of_a_program_its_median_and_spread(committed: Results) -> None:
    page = report.page(replace(committed, measured=(FAST,)))
    assert "| zconfig | 3.00 | 2.00-6.00 | 1.00 | 3 |" in page
    assert "| floor | 2.00 | 2.00-2.00 | 0.67 | 3 |" in page


def test_results_are_read_as_they_were_written(committed: Results, tmp_path) -> None:
    curves = Curves("b", "B", "threads", "calls/s", (1, 2), {"pool of 1": (0.5, 12340.0)})
    went = Summary(10.0, 7, (("calls that went well", "12"),), ("late: b",))
    run = replace(committed, measured=(SLOW, curves), soak=went)
    results.write(run, tmp_path)
    assert results.read(tmp_path) == run


def test_programs_take_turns_in_an_order_that_changes() -> None:
    ran: list[str] = []

    def run(name: str) -> float:
        ran.append(name)
        return float(len(ran))

    samples = interleave({name: lambda name=name: run(name) for name in "abc"}, rounds=3)
    assert "".join(ran) == "abc" + "abc" + "acb" + "cab"
    assert samples == {"a": (4, 7, 11), "b": (5, 9, 12), "c": (6, 8, 10)}
