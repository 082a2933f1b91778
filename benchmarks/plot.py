"""Throughput, latency and CPU over the number of connections, drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .load import Sample
from .rounds import Plan, Scenario, Taken, bare, play, quiet, spread
from .servers import OURS, SUBJECTS, Fleet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The colours of Okabe and Ito, which colour-blind people tell apart.
COLOURS = {"bare": "#999999", "dict": "#009E73", OURS: "#0072B2", "hop": "#D55E00"}
LEGEND: dict[str, Any] = {"loc": "outside lower center", "ncols": 4, "frameon": False}
PATHS = {"/read": "reading", "/write": "writing"}
PANELS: list[tuple[str, Callable[[Sample], float]]] = [
    ("requests per second", lambda sample: sample.rate),
    ("latency in ms: median, and 99 % (dotted)", lambda sample: sample.p50_us / 1000),
    ("µs of CPU per request", lambda sample: sample.cpu_us),
]


def connections_of(plan: Plan) -> list[int]:
    """Return the numbers of connections that are drawn.

    Fewer than there are users: of two writes at once to one session one counts.
    """
    return [2**power for power in range(0, 8, 1 if plan.rounds > 3 else 4)]


def lines(path: str, connections: Sequence[int]) -> dict[str, list[Scenario]]:
    """Return what is drawn for a handler: the scenarios of each server's line."""
    return {
        name: [
            bare(connections=count)
            if name == "bare"
            else Scenario(name, path, connections=count)
            for count in connections
        ]
        for name in COLOURS
    }


def measure(fleet: Fleet, plan: Plan) -> Taken:
    """Measure all that is drawn, in shorter rounds than the table's."""
    shorter = plan._replace(rounds=min(plan.rounds, 3), seconds=1)
    taken: Taken = {}
    for count in connections_of(plan):
        scenarios = [each for path in PATHS for [each] in lines(path, [count]).values()]
        taken |= play(fleet, dict.fromkeys(scenarios), shorter)
    return taken


def draw(taken: Taken, plan: Plan, directory: Path) -> list[Path]:
    """Draw a picture for reading and one for writing; return their files."""
    import matplotlib

    matplotlib.use("agg")
    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "font.size": 9})
    from matplotlib import pyplot

    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for path, doing in PATHS.items():
        figure, panels = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
        for name, scenarios in lines(path, connections_of(plan)).items():
            _draw_line(panels, name, [taken.get(each, []) for each in scenarios], plan)
        for axes, (title, _) in zip(panels, PANELS, strict=True):
            _finish(axes, title, connections_of(plan))
        figure.legend(*panels[0].get_legend_handles_labels(), **LEGEND)
        figure.suptitle(f"A handler {doing} its session")
        for kind, metadata in [("svg", {"Date": None}), ("png", {"Software": None})]:
            files.append(directory / f"{doing}.{kind}")
            figure.savefig(files[-1], metadata=metadata, dpi=150)
        pyplot.close(figure)
    return files


def _draw_line(
    panels: Sequence[Axes], name: str, samples: list[list[Sample]], plan: Plan
) -> None:
    measured = [
        (count, each)
        for count, each in zip(connections_of(plan), samples, strict=True)
        if each
    ]
    at = [count for count, _ in measured]
    style: dict[str, Any] = {"color": COLOURS[name], "marker": "o", "markersize": 3}
    for axes, (_, figure) in zip(panels, PANELS, strict=True):
        axes.plot(at, _medians(measured, figure), label=SUBJECTS[name].title, **style)
    tail = _medians(measured, lambda sample: sample.p99_us / 1000)
    panels[1].plot(at, tail, linestyle=":", **style)


def _medians(
    measured: list[tuple[int, list[Sample]]], figure: Callable[[Sample], float]
) -> list[float]:
    return [
        spread([figure(sample) for sample in quiet(each)]).median
        for _, each in measured
    ]


def _finish(axes: Axes, title: str, connections: Sequence[int]) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_xticks(connections, [str(count) for count in connections])
    axes.set_xlabel("connections")
    if "latency" in title:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
