"""What the benchmarks make of what they measure; little load, and one real run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import plot
from benchmarks.load import Sample, parsed
from benchmarks.report import Report, added_table, load_table, main_table
from benchmarks.result import Target, at_least, at_most, measured
from benchmarks.rounds import FULL, QUICK, Scenario, added, check_counts, spread
from benchmarks.rows import EXTRA, ROWS, Pair, added_ratio
from benchmarks.servers import SUBJECTS, Subject, Wrong
from benchmarks.singles import Moment, levels_off
from benchmarks.sites import first_data
from tornado_mcsession import MsgpackSerializer

ROOT = Path(__file__).parents[2]

# The table: what each row must reach, and where it should come to.
LIMITS = {
    "dict-read": ("≥ 0.7", "≥ 0.9"),
    "dict-write": ("≥ 0.7", "≥ 0.85"),
    "bare": ("≥ 0.68", "≥ 0.85"),
    "hop-read": ("≥ 1.8", "≥ 2.5"),
    "hop-write": ("≥ 2.3", "≥ 3"),
    "koa-read": ("≤ 1.7", "≤ 1"),
    "koa-write": ("≤ 1.7", "≤ 1"),
    "login-read": ("≥ 0.95", "≥ 1"),
    "login-write": ("≥ 0.95", "≥ 1"),
    "encryption-read": ("≥ 0.9", ""),
    "encryption-write": ("≥ 0.9", ""),
    "emcache-read": ("≥ 1", "≥ 1.3"),
    "emcache-write": ("≥ 1", "≥ 1.3"),
    "untouched": ("≥ 0.95", "≥ 0.98"),
    "calls-untouched": ("0 + 0", "exact"),
    "calls-unchanged": ("1 + 0", "exact"),
    "calls-changed": ("1 + 1", "exact"),
    "calls-renewed": ("1 + 1", "exact"),
    "renewals": ("rarely: ≤ 1 %", ""),
    "routing": ("≤ 3", ""),
    "p99": ("≤ 2", "≤ 1.3"),
    "alone": ("≤ 0.3", "≤ 0.15"),
    "crowd": ("memory, threads and queue level off; no error", ""),
    "import": ("≤ 40", "≤ 20"),
}

OURS, DICT = Scenario("ours"), Scenario("dict")
TARGET = at_least(0.7, aim=0.9)
PAIR = Pair("read", "dict-read", "reading", TARGET, (OURS, DICT))


def sample(rate: float = 1000, **others: float) -> Sample:
    """A second of load, by one connection that always waits for an answer."""
    figures = {"mean_us": 1e6 / rate, "p50_us": 900, "p99_us": 2000, "cpu_seconds": 0.1}
    figures |= {"broken": 0, "statuses": 0, "timeouts": 0}
    return Sample(**{"requests": int(rate), "seconds": 1, **figures, **others})


def test_what_wrk_measured_is_read():
    """The line of the wrk script is found among what wrk itself prints."""
    output = (
        "Running 2s test @ http://127.0.0.1:8888\n  1 threads and 32 connections\n"
        'measured {"requests": 400, "seconds": 2.0, "broken": 3, '
        '"statuses": 2, "timeouts": 1, "mean_us": 7.5, "p50_us": 7, "p99_us": 11}\n'
    )
    assert parsed(output) == Sample(400, 2.0, 3, 2, 1, 7.5, 7, 11)
    assert parsed(output).rate == 200
    assert parsed(output).errors == 6


def test_a_run_without_a_measurement_is_an_error():
    """Where wrk printed no figures nothing is made up."""
    with pytest.raises(ValueError, match="measured nothing"):
        parsed("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_cpu_time_is_shared_by_the_requests():
    """CPU per request is what the server used, by what was answered."""
    assert sample(500, cpu_seconds=0.25).cpu_us == 500


def test_the_middle_is_the_median():
    """One value that is far off moves neither the median nor the quartiles much."""
    assert spread([0.7, 0.8, 0.9, 0.8, 100]) == (0.8, 0.8, 0.9)
    assert spread([0.5]) == (0.5, 0.5, 0.5)


def test_ratios_are_taken_round_by_round():
    """A machine that gets slower from round to round changes no ratio."""
    speeds = [1000, 500, 250]
    taken = {
        OURS: [sample(0.8 * speed) for speed in speeds],
        DICT: [sample(speed) for speed in speeds],
    }
    assert PAIR.result(taken, {}).values == pytest.approx([0.8, 0.8, 0.8])


def test_added_cpu_is_beyond_the_bare_framework():
    """What a session adds is compared, not what the frameworks themselves take."""
    ours, bare, peer, its = (
        sample(1000, cpu_seconds=used) for used in (0.150, 0.100, 0.060, 0.010)
    )
    assert added_ratio(ours, bare, peer, its) == pytest.approx(1)


def test_disturbed_rounds_are_left_out():
    """Rounds in which other programs were busy do not count, if enough remain."""
    quiet = [sample(900) for _ in range(3)]
    taken = {
        OURS: [*quiet, sample(100, others=0.5)],
        DICT: [sample(1000) for _ in range(4)],
    }
    assert PAIR.result(taken, {}).values == pytest.approx([0.9, 0.9, 0.9])


def test_on_a_busy_machine_all_rounds_count():
    """Where hardly any round was quiet, none is chosen."""
    taken = {
        OURS: [sample(900), sample(800, others=0.5)],
        DICT: [sample(1000), sample(1000)],
    }
    assert PAIR.result(taken, {}).values == pytest.approx([0.9, 0.8])


def test_errors_make_a_run_worthless():
    """A server that answers with errors, however fast, gets no figure."""
    taken = {OURS: [sample(9999, statuses=1)], DICT: [sample(1000)]}
    result = PAIR.result(taken, {})
    assert (result.shown, result.reached) == ("", "")
    assert result.why_not == "ours/read: 1 error statuses in 9999 responses"


def test_forgotten_connections_make_a_run_worthless():
    """A server that answers few of its connections, however fast, gets no figure."""
    taken = {OURS: [sample(1000, connections=32)], DICT: [sample(1000)]}
    result = PAIR.result(taken, {})
    assert result.why_not == "ours/read: 97% of the connections got no response"


def test_what_could_not_be_started_is_said():
    """A row whose server is not there says why."""
    result = PAIR.result({OURS: [sample()]}, {"dict": "it is not installed"})
    assert result.why_not == "it is not installed"
    assert "not measured: it is not installed" in main_table(
        [PAIR], {PAIR.name: result}
    )


def test_missing_packages_are_named_with_the_way_to_install_them():
    """What a subject needs and is not there is said with the command for it."""
    python = Subject("x", "X", "plain.bare", ("no_such_module",))
    assert python.missing() == (
        "no_such_module not installed; pip install -e '.[test,bench]'"
    )
    assert SUBJECTS["ours"].missing() is None


@pytest.mark.parametrize(
    ("target", "figure", "reached"),
    [
        (at_least(0.7, aim=0.9), 0.69, "missed"),
        (at_least(0.7, aim=0.9), 0.7, "must"),
        (at_least(0.7, aim=0.9), 0.9, "aim"),
        (at_least(0.9), 2.0, "must"),
        (at_most(2, aim=1.3), 2.1, "missed"),
        (at_most(2, aim=1.3), 2.0, "must"),
        (at_most(2, aim=1.3), 1.3, "aim"),
    ],
)
def test_a_figure_reaches_its_limits(target: Target, figure: float, reached: str):
    """A limit itself is still within it, in both directions."""
    assert measured([figure], target).reached == reached


def test_each_row_of_the_table_is_measured():
    """All rows are there, with the limits that they have to keep."""
    assert {row.name: (row.must, row.aim) for row in ROWS} == LIMITS


def test_each_server_that_is_compared_is_known():
    """No row, and nothing beside the rows, names a server that there is not."""
    compared = [each for row in ROWS if isinstance(row, Pair) for each in row.scenarios]
    compared += [each for group in EXTRA.values() for each in group]
    names = {name for scenario in compared for name in scenario.servers} - {"nobody"}
    assert names <= set(SUBJECTS)


def test_the_sessions_are_of_300_bytes():
    """What is stored is as large as the table says."""
    assert 290 <= len(MsgpackSerializer().dumps(first_data(100))) <= 310


def test_writes_that_were_not_made_are_noticed():
    """A server that answers writes without making them is wrong."""
    check_counts("x", counted=1000, confirmed=1000)
    check_counts("x", counted=1032, confirmed=1000)
    with pytest.raises(Wrong, match="confirmed 1000 writes and counted 900"):
        check_counts("x", counted=900, confirmed=1000)


@pytest.mark.parametrize(
    ("memory", "level"),
    [
        ([40, 50, 52, 52, 52, 52, 52, 52, 52], True),
        ([40, 50, 52, 51, 52, 50, 52, 51, 52], True),
        ([40, 50, 60, 70, 80, 90, 100, 110, 120], False),
        ([40], False),
    ],
)
def test_growth_that_does_not_end_is_noticed(memory: list[int], level: bool):
    """What grows at first and then stays is level; what goes on growing is not."""
    assert levels_off([Moment(each, 3, 10) for each in memory]) is level
    assert levels_off([Moment(10, 2, each) for each in memory]) is level


def test_more_threads_than_the_node_may_have_are_noticed():
    """One of its threads may start late; another is none of its own."""
    threads = [2] * 30 + [3] * 30
    assert levels_off([Moment(10, each, 10) for each in threads])
    assert not levels_off([Moment(10, each + 1, 10) for each in threads])


def test_the_table_says_what_was_reached():
    """A row has its limits, the median and quartiles, the CPU time, and a verdict."""
    taken = {
        OURS: [sample(each, cpu_seconds=0.1 * each / 1000) for each in (600, 650, 690)],
        DICT: [sample(1000, cpu_seconds=0.08) for _ in range(3)],
    }
    table = main_table([PAIR], {PAIR.name: PAIR.result(taken, {})})
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells == [
        "reading",
        "≥ 0.7",
        "≥ 0.9",
        "0.65 (0.62 to 0.67)",
        "100 / 80 → 0.80",
        "**missed**",
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_the_table_of_servers_has_all_figures():
    """Each server's throughput, CPU time, latencies and errors are shown."""
    table = load_table({OURS: [sample(1000, cpu_seconds=0.2, timeouts=2)]})
    assert "| /read | 1000       | 200       | 0.90   | 2.00   | 2      |" in table


def test_the_table_of_peers_says_what_is_not_there():
    """Each peer has what its sessions add, or that it was not measured."""
    ours, bare = added("/read", "ours")
    taken = {ours: [sample(1000, cpu_seconds=0.15)], bare: [sample(cpu_seconds=0.1)]}
    lines = added_table(taken, {"koa": "no Node.js"}).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines]
    assert cells[2] == ["tornado-mcsession", "50 (50 to 50)", "not measured"]
    assert cells[3][1:] == ["not measured", "not measured"]


def test_what_was_not_measured_is_said_once_with_its_reason():
    """A reason names all that could not be measured because of it."""
    failed = {"koa": "no Node.js", "koa-bare": "no Node.js", "emcache": "no emcache"}
    text = Report([], QUICK, {}, {}, failed).text()
    koa = "koa-generic-session, koa-store-memcached, koa: no Node.js"
    assert f"Not measured: {koa}\n" in text
    assert "Not measured: … over emcache: no emcache\n" in text


def test_pictures_have_powers_of_two():
    """Load is drawn from one connection to 128, fewer than there are users."""
    assert plot.connections_of(FULL) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert plot.connections_of(QUICK) == [1, 16]
