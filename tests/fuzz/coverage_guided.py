"""One target under atheris: ``coverage_guided TARGET RUNS``, then libFuzzer's options.

A process of its own: libFuzzer ends the one that it runs in.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO

import atheris

INSTRUMENTED = ["tornado_mcsession", "pymemcache", "tornado.web", "tornado.httputil"]
MEMORY = 4 << 30


def counted(
    check: Callable[[bytes], None], name: str, runs: int
) -> Callable[[bytes], None]:
    """``check``, which tells after each tenth of ``runs`` how far it is."""
    done, step = 0, max(1, runs // 10)

    def count(data: bytes) -> None:
        nonlocal done
        done += 1
        if done % step == 0:
            print(f"{name}: {done} of {runs}", file=sys.stderr, flush=True)
        check(data)

    return count


def main() -> None:
    name, runs = sys.argv.pop(1), int(sys.argv.pop(1))
    # What was imported before is not instrumented, and would show no new code.
    with redirect_stderr(StringIO()), atheris.instrument_imports(include=INSTRUMENTED):
        from .material import listen
        from .targets import TARGETS

    listen()
    # What allocates as much as a length says gets a MemoryError, not the machine.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    check = counted(TARGETS[name].check, name, runs)
    atheris.Setup([*sys.argv, f"-runs={runs}", "-verbosity=0"], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
