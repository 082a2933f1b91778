"""Fuzz the targets by atheris, which looks for inputs that reach new code.

    scripts/fuzz                        # a million inputs, over all targets
    scripts/fuzz --runs 10000 cookies   # fewer, at one of them
    scripts/fuzz --again FILE cookies   # one input, as it was found
    scripts/fuzz --runs 20000 differential              # random handlers
    scripts/fuzz --runs 1 --seed 4711 differential      # one of them

``differential`` needs no atheris and runs only where it is named: its programs are
made of the seed and the numbers that follow it.
Exits with 1 where a promise was broken; the input is kept, and named.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import differential
from .targets import TARGETS

# A list of four billion items, or a value of as many bytes, does not fit.
MEGABYTES = 2048
# Seconds for one input.
SLOWEST = 10


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help=", ".join([*TARGETS, "differential"]),
    )
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0, help="0: another each time")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run one input")
    options = parser.parse_args(arguments)
    if options.targets == ["differential"]:
        return compare(options.seed, options.runs)
    names = options.targets or list(TARGETS)
    if unknown := sorted(set(names) - set(TARGETS)):
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if options.again is not None:
        if len(names) != 1:
            parser.error("--again needs the one target that the file is for")
        TARGETS[names[0]].check(options.again.read_bytes())
        return 0
    found = Path(tempfile.mkdtemp(prefix="mcsession-fuzz-"))
    runs = -(-options.runs // len(names))
    broken = [name for name in names if not fuzz(name, runs, options.seed, found)]
    if not broken:
        found.rmdir()
    return 1 if broken else 0


def compare(seed: int, runs: int) -> int:
    """Run random handlers with a session and without one."""
    began = time.monotonic()
    try:
        asyncio.run(differential.check_all(range(seed, seed + runs)))
    except differential.Mismatch as error:
        print(f"differential: {error}", file=sys.stderr)
        return 1
    took = time.monotonic() - began
    print(f"differential: {runs} programs, {took:.0f} s", file=sys.stderr)
    return 0


def fuzz(name: str, runs: int, seed: int, found: Path) -> bool:
    """Try ``runs`` inputs at one target; whether all promises were kept."""
    with tempfile.TemporaryDirectory() as directory:
        corpus, words = Path(directory, "corpus"), Path(directory, "words")
        corpus.mkdir()
        for number, data in enumerate(TARGETS[name].seeds()):
            Path(corpus, str(number)).write_bytes(data)
        words.write_text("".join(map(quoted, TARGETS[name].words)))
        began = time.monotonic()
        status = subprocess.run(
            [
                *(sys.executable, "-m", f"{__package__}.coverage_guided"),
                *(name, str(runs)),
                f"-seed={seed}",
                f"-dict={words}",
                f"-artifact_prefix={found}/{name}-",
                f"-timeout={SLOWEST}",
                f"-rss_limit_mb={MEGABYTES}",
                "-max_len=8192",
                str(corpus),
            ]
        ).returncode
        kept, took = len(list(corpus.iterdir())), time.monotonic() - began
    if status == 0:
        print(f"{name}: {runs} inputs, {kept} kept, {took:.0f} s", file=sys.stderr)
        return True
    print(f"{name}: broken after {took:.0f} s (status {status})", file=sys.stderr)
    for path in sorted(found.glob(f"{name}-*")):
        print(f"  scripts/fuzz --again {path} {name}", file=sys.stderr)
    return False


def quoted(word: bytes) -> str:
    """A line of libFuzzer's dictionary."""
    return '"{}"\n'.format("".join(f"\\x{byte:02x}" for byte in word))


if __name__ == "__main__":
    sys.exit(main())
