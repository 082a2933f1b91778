"""What a row of the table has come to, and the limit that it has to keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .rounds import spread


class Limit(NamedTuple):
    """What a figure must reach, or must not exceed."""

    sign: str
    figure: float

    def holds(self, figure: float) -> bool:
        return figure >= self.figure if self.sign == "≥" else figure <= self.figure

    def __str__(self) -> str:
        return f"{self.sign} {self.figure:g}"


@dataclass(frozen=True)
class Result:
    """What was measured, in words or as values of which the median counts."""

    values: list[float] = field(default_factory=list)
    words: str = ""
    cpu: str = ""
    why_not: str = ""
    is_right: bool = True  # of what has no limit

    @property
    def shown(self) -> str:
        """What the table shows."""
        if self.why_not:
            return f"not measured: {self.why_not}"
        if self.words:
            return self.words
        median, low, high = spread(self.values)
        digits = 0 if median >= 10 else 2
        return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def keeps(self, limit: Limit | None) -> bool:
        """Return whether it was measured, is right, and within its limit."""
        if self.why_not or not self.is_right:
            return False
        return limit is None or limit.holds(spread(self.values).median)
