"""Where the time and the memory of a program go: what a missed goal is reported with."""

from __future__ import annotations

import itertools
import subprocess
from collections import defaultdict
from collections.abc import Mapping

from benchmarks import programs
from benchmarks.lines import Lab

RUNS = 5
SHOWN = 15

# What makes classes, and what clears up behind it, is spread over all modules: it is summed up. A
# class made while another one is counts once.
_COUNTED = """
import atexit, dataclasses, gc, sys, time
import pydantic
spent, under_way = {}, []
def counted(what, function):
    def wrapped(*args, **kwargs):
        began = time.perf_counter()
        under_way.append(what)
        try:
            return function(*args, **kwargs)
        finally:
            under_way.pop()
            count, seconds = spent.get(what, (0, 0.0))
            took = 0.0 if under_way else time.perf_counter() - began
            spent[what] = (count + 1, seconds + took)
    return wrapped
dataclasses._process_class = counted("dataclasses", dataclasses._process_class)
metaclass = type(pydantic.BaseModel)
metaclass.__new__ = staticmethod(counted("pydantic models", metaclass.__new__))
began = []
def collected(phase, info):
    if phase == "start":
        began.append(time.perf_counter())
    else:
        what = "full garbage collections" if info["generation"] == 2 else "other collections"
        count, seconds = spent.get(what, (0, 0.0))
        spent[what] = (count + 1, seconds + time.perf_counter() - began.pop())
gc.callbacks.append(collected)
def tell():
    gc.callbacks.remove(collected)
    for what, (count, seconds) in spent.items():
        print(what, count, seconds * 1e3, sep="|")
atexit.register(tell)
"""

_PROFILED = """
import cProfile, pstats, sys
for _ in range(20):
    work()
profile = cProfile.Profile()
profile.enable()
for _ in range(100):
    work()
profile.disable()
for (path, line, name), (_, calls, own, total, _) in pstats.Stats(profile).stats.items():
    print(path, name, calls / 100, own * 10, total * 10, sep="|")
"""

_RESIDENT = """
import psutil
print(psutil.Process().memory_info().rss)
"""


def of_imports(
    lab: Lab, source: str, floor: str, environ: Mapping[str, str], *, floor_name: str = "the floor"
) -> str:
    """Return what a program imports that its floor does not, and what that is spent on.

    Args:
        lab: Where to run them.
        source: The program.
        floor: What it is compared to.
        environ: The environment of both.
        floor_name: What to call that.
    """
    own, base = _self_times_ms(lab, source, environ), _self_times_ms(lab, floor, environ)
    besides = {name: took for name, took in own.items() if name not in base}
    packages: dict[str, float] = defaultdict(float)
    for name, took in besides.items():
        packages[name.partition(".")[0]] += took
    head = (
        f"imports, lowest of {RUNS} runs: {sum(own.values()):.0f} ms in {len(own)} modules,"
        f" {floor_name} {sum(base.values()):.0f} ms in {len(base)};"
        f" modules that it does not import: {sum(besides.values()):.0f} ms in {len(besides)}"
    )
    parts = [
        f"by package, in ms: {_listed(packages)}",
        f"by module: {_listed(besides)}",
        *_sums(lab, source, floor, environ, floor_name),
    ]
    return "\n".join([head, *parts])


def of_work(lab: Lab, source: str, environ: Mapping[str, str]) -> str:
    """Return where a program's `work` spends its time, by function."""
    rows = [
        line.split("|") for line in _run(lab, "profiled", source + _PROFILED, environ).splitlines()
    ]
    by_total = sorted(rows, key=lambda row: -float(row[4]))
    ours = [row for row in by_total if "zconfig" in row[0]][:SHOWN]
    by_own = sorted(rows, key=lambda row: -float(row[3]))[:SHOWN]
    return "\n".join(
        [
            "a call of it under cProfile, which makes it slower; ours, with what they call:",
            *(f"{float(row[4]):>8.2f} ms  {_function(row)}" for row in ours),
            "all, by themselves:",
            *(f"{float(row[3]):>8.2f} ms  {_function(row)}" for row in by_own),
        ]
    )


def of_memory(lab: Lab, steps: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return how much resident memory each step of a program adds, in MB.

    Args:
        lab: Where to run it.
        steps: By name the source of each, one after the other.
        environ: Its environment.
    """
    source = _RESIDENT + "".join(step + _RESIDENT for step in steps.values())
    resident = [float(line) / 1e6 for line in _run(lab, "resident", source, environ).splitlines()]
    added = [after - before for before, after in itertools.pairwise(resident)]
    rows = [f"{mb:>8.1f} MB  {name}" for name, mb in zip(steps, added, strict=True)]
    return "\n".join([f"{resident[0]:>8.1f} MB  Python with psutil", *rows])


def _self_times_ms(lab: Lab, source: str, environ: Mapping[str, str]) -> dict[str, float]:
    """Return what each module's import took by itself: the lowest of several runs."""
    lowest: dict[str, float] = {}
    path = programs.stored(lab, "imported", source)
    for _ in range(RUNS):
        done = subprocess.run(  # noqa: S603 - a program of ours
            [lab.python, "-X", "importtime", path],
            env=environ,
            cwd=lab.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        for line in done.stderr.splitlines():
            took, _, name = line.removeprefix("import time:").replace("|", " ").split(maxsplit=2)
            if took.isdigit():
                lowest[name] = min(lowest.get(name, float("inf")), int(took) / 1e3)
    return lowest


def _sums(
    lab: Lab, source: str, floor: str, environ: Mapping[str, str], floor_name: str
) -> list[str]:
    """Return what classes and collections take, of both."""
    both = [
        {
            what: (int(count), float(ms))
            for what, count, ms in (
                line.split("|")
                for line in _run(lab, "counted", _COUNTED + each, environ).splitlines()
            )
        }
        for each in (source, floor)
    ]
    kinds = sorted(both[0], key=lambda what: -both[0][what][1])
    return [
        f"{what}: {both[0][what][0]} in {both[0][what][1]:.0f} ms;"
        f" {floor_name} {both[1].get(what, (0, 0.0))[0]} in {both[1].get(what, (0, 0.0))[1]:.0f} ms"
        for what in kinds
    ]


def _run(lab: Lab, name: str, source: str, environ: Mapping[str, str]) -> str:
    done = subprocess.run(  # noqa: S603 - a program of ours
        [lab.python, programs.stored(lab, name, source)],
        env=environ,
        cwd=lab.directory,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _listed(took_ms: Mapping[str, float]) -> str:
    most = sorted(took_ms.items(), key=lambda item: -item[1])[:SHOWN]
    return ", ".join(f"{name} {ms:.1f}" for name, ms in most)


def _function(row: list[str]) -> str:
    """Return a function as its module's last names, without where that is installed."""
    path, name, calls, *_ = row
    where = "/".join(path.split("/")[-2:])
    return f"{where} {name}, {float(calls):g} times" if "/" in where else f"{name}"
