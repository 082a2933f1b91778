"""A site under load and under faults, and a check that it keeps its promises."""
