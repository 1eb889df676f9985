"""What a process pays before it is connected: time and memory, from its very start."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil

from benchmarks import profiles, programs
from benchmarks.lines import Curves, Goal, Lab, Line, explained, interleave

MB = 1e6


def measure(lab: Lab) -> Iterator[Line | Curves]:
    """Measure a first connection, the import alone, another connection, and the memory."""
    yield cold_connect(lab)
    yield importing(lab)
    yield warm_connect(lab)
    yield memory(lab)


def cold_connect(lab: Lab) -> Line:
    """Measure the time from a process' start to its first connected alias."""
    environ = programs.environment(lab)
    run = {
        name: programs.time_to_end(lab, f"cold-{name}", source, environ)
        for name, source in programs.COLD.items()
    }
    line = Line(
        "cold-connect",
        "From a process' start to its first connected alias",
        "ms",
        interleave(run, lab.rounds(40)),
        goals=(
            Goal("zconfig", "pymilvus", at_most=0.45),
            Goal("zconfig", "floor", at_most=1.25),
        ),
        note=(
            "`zconfig.autoconnect()`, with the URI and the token in the environment, against"
            " `pymilvus.connections.connect(uri, token)`. The floor imports pydantic_settings,"
            " structlog and grpc, and makes one Connect call, of the same bytes, on a bare channel."
        ),
    )
    program, floor = programs.COLD["zconfig"], programs.COLD["floor"]
    return explained(line, lambda: profiles.of_imports(lab, program, floor, environ))


def importing(lab: Lab) -> Line:
    """Measure `import zconfig`, in processes without any configuration."""
    sources = {
        "zconfig": programs.IMPORT,
        "floor": programs.IMPORT_FLOOR,
        "bare Python": programs.NOTHING,
    }
    environ = programs.environment(lab, connected=False)
    run = {
        name: programs.time_to_end(lab, f"import-{name}", source, environ)
        for name, source in sources.items()
    }
    line = Line(
        "import",
        "From a process' start to the end of its import",
        "ms",
        interleave(run, lab.rounds(40)),
        goals=(Goal("zconfig", "floor", at_most=1.10),),
        note=(
            "`import zconfig`. The floor is `import pydantic_settings, structlog`; both with the"
            " start of the interpreter, which alone is the third."
        ),
    )
    program, floor = sources["zconfig"], sources["floor"]
    return explained(line, lambda: profiles.of_imports(lab, program, floor, environ))


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
        goals=(Goal("zconfig", "floor", at_most=1.3),),
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
        goals=(Goal("zconfig", "pymilvus", at_most=0.45),),
        note=(
            "The programs of the first line, once they are connected. Of that is theirs alone,"
            f" shared with no other process (USS): {alone}."
        ),
    )
    return explained(line, lambda: profiles.of_memory(lab, programs.STEPS, environ))
