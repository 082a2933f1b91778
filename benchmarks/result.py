"""What a figure must reach, and what it has reached."""

from __future__ import annotations

from dataclasses import dataclass, field

from .rounds import spread


@dataclass(frozen=True)
class Target:
    """What a figure must reach, and where it should come to."""

    sign: str
    must: float
    aim: float | None = None

    def reached(self, figure: float) -> str:
        """Return which of the two a figure has reached, or "missed"."""
        if not self._holds(figure, self.must):
            return "missed"
        return (
            "aim" if self.aim is not None and self._holds(figure, self.aim) else "must"
        )

    @property
    def must_text(self) -> str:
        return f"{self.sign} {self.must:g}"

    @property
    def aim_text(self) -> str:
        return "" if self.aim is None else f"{self.sign} {self.aim:g}"

    def _holds(self, figure: float, limit: float) -> bool:
        return figure >= limit if self.sign == "≥" else figure <= limit


def at_least(must: float, aim: float | None = None) -> Target:
    return Target("≥", must, aim)


def at_most(must: float, aim: float | None = None) -> Target:
    return Target("≤", must, aim)


@dataclass(frozen=True)
class Result:
    """What a row of the table has come to."""

    shown: str = ""
    reached: str = ""  # "aim", "must", "missed"; "": it was not measured
    cpu: str = ""
    values: list[float] = field(default_factory=list)
    why_not: str = ""


def measured(values: list[float], target: Target, cpu: str = "") -> Result:
    """Return the result of values that were measured one after another."""
    median, low, high = spread(values)
    shown = f"{median:.2f} ({low:.2f} to {high:.2f})"
    return Result(shown, target.reached(median), cpu, values)
