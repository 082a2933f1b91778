"""What benchmarks.size prints is what memcached has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.integration
def test_the_sizes_of_sessions_and_connections_are_measured():
    """A larger session takes a larger item, in a chunk that is larger still."""
    command = [sys.executable, "-m", "benchmarks.size", "--sessions", "2000"]
    done = subprocess.run(
        [*command, "--bytes", "100", "1000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\d+) B \| (\d+) B \| (\d+) B \|", done.stdout, re.M)
    (small, large) = [tuple(map(int, row)) for row in rows]
    assert 900 <= large[1] - small[1] <= 910
    for data, item, chunk in (small, large):
        assert data + 100 < item <= chunk < item * 1.3
    (connection,) = re.findall(r"^a connection: (\d+) B", done.stdout, re.M)
    assert 200 < int(connection) < 20_000
    assert "connections of a busy process to each node: 2\n" in done.stdout
