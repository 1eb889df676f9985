"""One sample of what many aliases take, in this process, which has done nothing else.

    python -m benchmarks.growing environment 1000
    python -m benchmarks.growing dotenv 1000                     # in a .env, which is written here
    python -m benchmarks.growing connected 100 URI TOKEN
    python -m benchmarks.growing connected 100 URI TOKEN --profile

It prints milliseconds and kilobytes for all of them together; or where they go. What the first
alias of a process takes is not among it: that is no growth.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.profiling import allocated, called, sampled
from tests.support.registries import registry

Environ = Mapping[str, str]
Sample = dict[str, float]
Have = Callable[[Environ], AbstractContextManager[Sample]]


def main() -> None:
    """Take the sample, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growing")
    parser.add_argument("what", choices=("environment", "dotenv", "connected"))
    parser.add_argument("count", type=int)
    parser.add_argument("uri", nargs="?", default="http://127.0.0.1:19530")
    parser.add_argument("token", nargs="?", default="user:password")
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args()
    environ = variables(chosen.count, chosen.uri, chosen.token)
    have = connected if chosen.what == "connected" else loaded
    take(have, variables(1, chosen.uri, chosen.token))
    if chosen.what == "dotenv":
        text = "".join(f"{name}={value}\n" for name, value in environ.items())
        Path(".env").write_text(text, encoding="utf-8")
        environ = {}
    print(profile(have, environ) if chosen.profile else json.dumps(take(have, environ)))


def variables(count: int, uri: str, token: str) -> dict[str, str]:
    """Return the environment of aliases that lead to one server.

    Each has a keepalive of its own, for it would share another one's HTTP/2 connection otherwise.
    """
    environ: dict[str, str] = {}
    for number in range(count):
        environ[f"ZILLIZ_A{number}_URI"] = uri
        environ[f"ZILLIZ_A{number}_TOKEN"] = token
        environ[f"ZILLIZ_A{number}_KEEPALIVE"] = f"{30 + number / 100:g}"
    return environ


@contextmanager
def loaded(environ: Environ) -> Iterator[Sample]:
    """Read the configuration, as `import zconfig` does; the processor's time counts."""
    before_kb = resident_kb()
    began = time.process_time()
    with registry(**environ) as connections:
        ms = (time.process_time() - began) * 1e3
        if connections.configuration.problems:
            raise AssertionError(connections.configuration.problems[:3])
        yield {"ms": ms, "kb": resident_kb() - before_kb, "count": len(connections)}


@contextmanager
def connected(environ: Environ) -> Iterator[Sample]:
    """Connect every alias; the time that passes counts."""
    before_kb = resident_kb()
    with registry(**environ) as connections:
        began = time.perf_counter()
        opened = connections.autoconnect()
        ms = (time.perf_counter() - began) * 1e3
        yield {"ms": ms, "kb": resident_kb() - before_kb, "count": len(opened)}


def take(have: Have, environ: Environ) -> Sample:
    """Have the aliases for a moment, and return what they took."""
    with have(environ) as sample:
        return sample


def profile(have: Have, environ: Environ) -> str:
    """Return where the time goes, and where the memory."""
    look = sampled if have is connected else called
    time_goes = look(lambda: take(have, environ))
    return f"{time_goes.strip()}\n\nallocated where\n{allocated(lambda: have(environ))}"


def resident_kb() -> float:
    """Return the memory of this process that is in use, in kilobytes."""
    gc.collect()
    known = Path("/proc/self/statm")
    if known.exists():  # Linux, also where there is no `ps`
        return int(known.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    question = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    answer = subprocess.run(question, capture_output=True, check=True)  # noqa: S603 - our own words
    return float(answer.stdout)


if __name__ == "__main__":
    main()
