"""Play every order of two requests within some bounds, and tell what was broken.

    python -m tests.concurrency                      # one preemption, one fault
    python -m tests.concurrency --preemptions 3 --faults 0
    python -m tests.concurrency login set            # of these two acts alone

Exits with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys

from .plays import ACTS, Scenario
from .test_interleavings import PRINCIPALS, explore


def main() -> int:
    """Play, print each scenario that fails, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.concurrency")
    parser.add_argument("acts", nargs="*", choices=[[], *ACTS], metavar="ACT")
    parser.add_argument("--preemptions", type=int, default=1)
    parser.add_argument("--faults", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tracked", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    pairs = (
        [tuple(options.acts)] if options.acts else [*itertools.product(ACTS, repeat=2)]
    )
    played = broken = 0
    for acts, principal in itertools.product(pairs, PRINCIPALS):
        try:
            played += explore(
                Scenario(principal, acts, options.processes, options.tracked),
                preemptions=options.preemptions,
                faults=options.faults,
            )
        except AssertionError as error:
            broken += 1
            print(f"{error}\n", flush=True)
    print(
        f"{played} orders of {len(pairs)} scenarios, {broken} broken", file=sys.stderr
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
