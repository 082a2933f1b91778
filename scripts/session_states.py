"""Print the page of the documentation about the states of a session.

It is drawn from the package's own table, so that the two cannot differ.

    python scripts/session_states.py --write docs/concepts/session-states.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tornado_mcsession.sessions.state import (
    TRANSITIONS,
    Delivery,
    Event,
    Phase,
    Reach,
)

PAGE = """\
# The states of a session

`self.session` passes through these states during one request. You do not need them to
use the package; they help to understand an error or a log line, or to change the code.
A transition that is not in the table cannot happen.

This page is written by
`python scripts/session_states.py --write docs/concepts/session-states.md` from
`tornado_mcsession/sessions/state.py`, which is the table that the code runs on.

## What the request knows

{phases}

```mermaid
stateDiagram-v2
{diagram}
```

{transitions}

- A request without a session id goes from `UNLOADED` to `NEW` without asking the store.
- In `NEW`, nothing is stored until there is data, a flash message or a login.
- In `ENDED`, changes are dropped and counted as `dropped_saves`. A login begins a new
  session.
- In `UNAVAILABLE`, `session.available` is `False`, and what is written lasts for this
  request.

## What of the response can still be changed

{reaches}

## What the response tells the client

{deliveries}
"""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def diagram() -> str:
    """Return the transitions in Mermaid's language."""
    lines = [f"    [*] --> {Phase.UNLOADED.name}"]
    for phase, transitions in TRANSITIONS.items():
        for event, target in transitions.items():
            lines.append(f"    {phase.name} --> {target.name}: {event.name}")
    return "\n".join(lines)


def page() -> str:
    """Return the whole page."""

    def named(kind: type[Phase] | type[Reach] | type[Delivery], head: str) -> str:
        rows = [(f"`{state.name}`", state.value) for state in kind]
        return table((head, "meaning"), rows)

    rows = []
    for event in Event:
        cells = []
        for phase in Phase:
            target = TRANSITIONS[phase].get(event)
            cells.append("" if target is None else f"`{target.name}`")
        rows.append((f"`{event.name}`: {event.value}", *cells))
    head = ("what happens", *(f"in `{phase.name}`" for phase in Phase))
    return PAGE.format(
        phases=named(Phase, "state"),
        diagram=diagram(),
        transitions=table(head, rows),
        reaches=named(Reach, "state"),
        deliveries=named(Delivery, "state"),
    )


def main() -> None:
    """Print the page, or write it to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, help="write the page to this file")
    arguments = parser.parse_args()
    if arguments.write:
        arguments.write.write_text(page())
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
