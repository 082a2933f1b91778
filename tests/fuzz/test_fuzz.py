"""Ten thousand inputs at every boundary, the same ones in each run.

``scripts/fuzz`` tries a million.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from . import material
from .targets import TARGETS

RAW, MUTATED = 500, 1500


@pytest.fixture(scope="module", autouse=True)
def _listening() -> Iterator[None]:
    material.listen()
    yield
    material.stop_listening()
    material.close_loop()


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """``data`` with pieces of it cut out, and others in their place."""
    for at, length, instead in edits:
        start = at % (len(data) + 1)
        data = data[:start] + instead + data[start + length :]
    return data


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """Valid material of a target, with a few things wrong in it."""
    target = TARGETS[name]
    seeds = st.sampled_from(target.seeds())
    piece = st.one_of(
        st.sampled_from(list(target.words)),
        st.binary(max_size=4),
        seeds.map(lambda seed: seed[len(seed) // 2 :]),
    )
    edit = st.tuples(st.integers(0, 4096), st.integers(0, 6), piece)
    return st.builds(edited, seeds, st.lists(edit, max_size=4))


each_target = pytest.mark.parametrize("name", TARGETS)
# Orders of operations are played by tests/concurrency in each run.
each_boundary = pytest.mark.parametrize(
    "name", [name for name in TARGETS if name != "interleavings"]
)
many = settings(
    max_examples=MUTATED,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)


@each_target
def test_seeds_keep_every_promise(name):
    """Valid material, and each attack that is known."""
    for seed in TARGETS[name].seeds():
        TARGETS[name].check(seed)


@each_boundary
@settings(max_examples=RAW)
@given(data=st.binary(max_size=400))
@example(b"")
def test_raw_bytes_keep_every_promise(name, data):
    """Bytes that mean nothing are refused by the documented errors alone."""
    TARGETS[name].check(data)


@each_boundary
def test_mutated_material_keeps_every_promise(name):
    """What is nearly valid is refused, or is what it says."""

    @many
    @given(mutated(name))
    def run(data: bytes) -> None:
        TARGETS[name].check(data)

    run()
