"""What a process pays before it is connected: time and memory, from its very start."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import psutil

from benchmarks import profiles, programs
from benchmarks.lines import Curves, Goal, Lab, Line, explained, interleave
from benchmarks.programs import Usage

MB = 1e6


TWO_ALIASES = """\
ZILLIZ_URI=http://127.0.0.1:19530
ZILLIZ_TOKEN=root:Milvus
ZILLIZ_OTHER_URI=http://127.0.0.1:19531
ZILLIZ_OTHER_TOKEN=root:Milvus
"""
_CPU = "The processor's time of the same runs, of all threads; the least of them counts."


def measure(lab: Lab) -> Iterator[Line | Curves]:
    """Measure a first connection, the import, the command, another connection, and the memory."""
    yield from cold_connect(lab)
    yield from importing(lab)
    yield from command(lab)
    yield warm_connect(lab)
    yield memory(lab)


def cold_connect(lab: Lab) -> Iterator[Line]:
    """Measure a process from its start to its first connected alias."""
    environ = programs.environment(lab)
    run = {
        name: partial(programs.run_program, lab, f"cold-{name}", source, environ)
        for name, source in programs.COLD.items()
    }
    wall, cpu = used(
        run,
        lab.rounds(40),
        "cold-connect",
        "From a process' start to its first connected alias",
        note=(
            "`zconfig.autoconnect()`, with the URI and the token in the environment, against"
            " `pymilvus.connections.connect(uri, token)`. The floor imports pydantic_settings and"
            " grpc, and makes one Connect call, of the same bytes, on a bare channel; another one"
            " imports structlog as well, as many applications do."
        ),
    )
    yield wall
    goals = (Goal("zconfig", "pymilvus", at_most=0.36), Goal("zconfig", "floor", at_most=1.2))
    program, floor = programs.COLD["zconfig"], programs.COLD["floor"]
    yield explained(
        replace(cpu, goals=goals), lambda: profiles.of_imports(lab, program, floor, environ)
    )


def importing(lab: Lab) -> Iterator[Line]:
    """Measure `import zconfig`, where a `.env` configures two aliases."""
    sources = {
        "zconfig": programs.IMPORT,
        **programs.IMPORT_FLOORS,
        "bare Python": programs.NOTHING,
    }
    environ = programs.environment(lab, connected=False)
    dotenv = lab.directory / ".env"
    dotenv.touch(mode=0o600)
    dotenv.write_text(TWO_ALIASES, encoding="utf-8")
    try:
        run = {
            name: partial(programs.run_program, lab, f"import-{name}", source, environ)
            for name, source in sources.items()
        }
        wall, cpu = used(
            run,
            lab.rounds(40),
            "import",
            "From a process' start to the end of its import",
            note=(
                "`import zconfig`, where a `.env` configures two aliases. The floor is `import"
                " pydantic_settings`; all with the start of the interpreter, which alone is the"
                " last."
            ),
        )
        yield wall
        program, floor = sources["zconfig"], sources["floor"]
        yield explained(
            replace(cpu, goals=(Goal("zconfig", "floor", at_most=1.08),)),
            lambda: profiles.of_imports(lab, program, floor, environ),
        )
    finally:
        dotenv.unlink()


def command(lab: Lab) -> Iterator[Line]:
    """Measure the command against the program that connects in its place."""
    environ = programs.environment(lab)
    program = programs.COLD["zconfig"]
    run = {
        name: partial(programs.run_command, lab, arguments, environ)
        for name, arguments in programs.COMMANDS.items()
    }
    path = str(programs.stored(lab, "command-program", program))
    run["program"] = partial(programs.run_command, lab, (path,), environ)
    wall, cpu = used(
        run,
        lab.rounds(20),
        "command",
        "From the start of the command to its end",
        note="`zconfig check` of one alias; the program imports zconfig and connects it.",
    )
    yield wall
    goals = (
        Goal("zconfig check", "program", at_most=1.25),
        Goal("zconfig --help", "program", at_most=0.6),
    )
    yield explained(
        replace(cpu, goals=goals),
        lambda: profiles.of_imports(
            lab, "import zconfig._cli.app\n", program, environ, floor_name="the program"
        ),
    )


def used(
    programs: Mapping[str, Callable[[], Usage]], rounds: int, name: str, title: str, *, note: str
) -> tuple[Line, Line]:
    """Measure programs by turns; return the time that passed, and that of the processor."""
    cpu_ms: dict[str, list[float]] = defaultdict(list)

    def wall_ms(program: str) -> float:
        usage = programs[program]()
        cpu_ms[program].append(usage.cpu_ms)
        return usage.wall_ms

    samples = interleave({each: partial(wall_ms, each) for each in programs}, rounds)
    wall = Line(name, title, "ms", samples, note=note)
    counted = {program: tuple(values[1:]) for program, values in cpu_ms.items()}  # as `interleave`
    cpu = Line(f"{name}-cpu", f"{title}, processor time", "ms", counted, note=_CPU)
    return wall, replace(cpu, statistic="least")


def warm_connect(lab: Lab) -> Line:
    """Measure connecting and disconnecting, where everything is imported."""
    environ = programs.environment(lab)
    with ExitStack() as stack:
        run: dict[str, Callable[[], float]] = {
            name: stack.enter_context(programs.worker(lab, f"warm-{name}", source, environ))
            for name, source in programs.WARM.items()
        }
        samples = interleave(run, lab.rounds(200, few=30))
    line = Line(
        "warm-connect",
        "To connect and disconnect again, in a running process",
        "ms",
        samples,
        goals=(Goal("zconfig", "floor", at_most=1.25),),
        note=(
            "`connections.connect()` and `connections.disconnect()` of an alias, over and over. The"
            " floor makes a bare channel and one Connect call on it, and closes it."
        ),
    )
    return explained(line, lambda: profiles.of_work(lab, programs.WARM["zconfig"], environ))


def memory(lab: Lab) -> Line:
    """Measure the resident memory of a process that has connected."""
    environ = programs.environment(lab)
    own: dict[str, list[float]] = defaultdict(list)

    def resident(name: str, source: str) -> float:
        with programs.waiting(lab, f"memory-{name}", source, environ) as pid:
            info = psutil.Process(pid).memory_full_info()
        own[name].append(info.uss / MB)
        return float(info.rss / MB)

    run = {
        name: lambda name=name, source=source: resident(name, source)
        for name, source in programs.COLD.items()
    }
    samples = interleave(run, lab.rounds(9))
    alone = ", ".join(f"{name} {statistics.median(of):.0f} MB" for name, of in own.items())
    line = Line(
        "memory",
        "Resident memory after one connect",
        "MB",
        samples,
        goals=(Goal("zconfig", "pymilvus", at_most=0.38),),
        note=(
            "The programs of the first line, once they are connected. Of that is theirs alone,"
            f" shared with no other process (USS): {alone}."
        ),
    )
    return explained(line, lambda: profiles.of_memory(lab, programs.STEPS, environ))
