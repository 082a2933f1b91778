"""What the benchmarks make of what they measure; little load, and one real run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import picture
from benchmarks.load import Sample, parsed
from benchmarks.report import Report, filled, load_table
from benchmarks.rounds import QUICK, Result, Scenario, spread
from benchmarks.rows import COMPARED, EXTRA, ROWS, Pair, added, added_ratio
from benchmarks.servers import SIZES, SUBJECTS
from benchmarks.sites import first_data
from tornado_mcsession import MsgpackSerializer

DOCS = Path(__file__).parents[2] / "docs"
PAGE, FIGURES = DOCS / "performance.md", DOCS / "figures" / "performance.json"

OURS, DICT = Scenario("ours"), Scenario("dict")
PAIR = Pair("main", "dict-reading", "reading", (OURS, DICT))


def sample(rate: float = 1000, **others: float) -> Sample:
    """A second of load, by one connection that always waits for a response."""
    figures = {"mean_us": 1e6 / rate, "p50_us": 900, "p99_us": 2000, "cpu_seconds": 0.1}
    figures |= {"requests": int(rate), "seconds": 1, "errors": 0}
    return Sample(**{**figures, **others})


def test_what_wrk_measured_is_read():
    """The line of the wrk script is found among what wrk itself prints."""
    output = (
        "Running 2s test @ http://127.0.0.1:8888\n  1 threads and 32 connections\n"
        'measured {"requests": 400, "seconds": 2.0, "errors": 6, '
        '"mean_us": 7.5, "p50_us": 7, "p99_us": 11}\n'
    )
    assert parsed(output) == Sample(400, 2.0, 6, 7.5, 7, 11)
    assert parsed(output).rate == 200


def test_a_run_without_a_measurement_is_an_error():
    """Where wrk printed no figures nothing is made up."""
    with pytest.raises(ValueError, match="measured nothing"):
        parsed("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_cpu_time_is_shared_by_the_requests():
    """CPU per request is what the server used, divided by its responses."""
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


@pytest.mark.parametrize(("quiet", "busy"), [(3, 2), (1, 2)])
def test_disturbed_rounds_are_left_out(quiet: int, busy: int):
    """Rounds in which other programs were busy do not count, but for the quietest."""
    shares = [0.75, *[0.5] * (busy - 1), *[0.0] * quiet]
    taken = {
        OURS: [sample(1000 * (1 - others), others=others) for others in shares],
        DICT: [sample(1000) for _ in shares],
    }
    kept = [1.0, 1.0, 1.0] if quiet == 3 else [1.0, 0.5, 0.25]
    assert PAIR.result(taken, {}).values == pytest.approx(kept)


@pytest.mark.parametrize(
    ("sample", "why_not"),
    [
        (sample(9999, errors=1), "1 errors in 9999 responses"),
        (sample(1000, requests=0), "no response in one of the rounds"),
        (sample(1000, connections=32), "97% of the connections got no response"),
    ],
)
def test_a_server_that_fails_gets_no_figure(sample: Sample, why_not: str):
    """Errors, and connections that are forgotten, make a sample worthless."""
    result = PAIR.result({OURS: [sample], DICT: [sample]}, {})
    assert result.shown == f"not measured: ours/read: {why_not}"


def test_what_could_not_be_started_is_said():
    """A row whose server is not there says why."""
    failed = {"dict": "it is not installed"}
    results = {PAIR.name: PAIR.result({OURS: [sample()]}, failed)}
    text = Report([PAIR], QUICK, results, {}, failed).text()
    assert "| not measured: it is not installed |" in text
    assert "Not measured: dict: it is not installed." in text


def test_each_server_that_is_compared_is_known():
    """No row, and nothing beside the rows, names a server that there is not."""
    compared = [each for row in ROWS if isinstance(row, Pair) for each in row.scenarios]
    compared += [each for group in EXTRA.values() for each in group]
    names = {name for each in compared for name in (each.subject, each.visitors)}
    assert names - {"nobody"} <= set(SUBJECTS)
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_sessions_have_the_size_that_the_rows_say():
    """Those of most rows have 300 bytes, the others 1, 10 and 100 KB."""
    dumps = MsgpackSerializer().dumps
    assert 290 <= len(dumps(first_data(100))) <= 310
    for size in SIZES:
        assert 900 <= len(dumps(first_data(100, size))) / size <= 1200


def test_a_row_shows_what_was_measured():
    """The median and the quartiles, the CPU time of both, or words."""
    taken = {
        OURS: [sample(each, cpu_seconds=0.1 * each / 1000) for each in (600, 650, 690)],
        DICT: [sample(1000, cpu_seconds=0.08) for _ in range(3)],
    }
    result = PAIR.result(taken, {})
    assert (result.shown, result.cpu) == ("0.65 (0.62 to 0.67)", "100 / 80")
    assert Result([1, 0], "1 + 0").shown == "1 + 0"


def test_the_table_of_servers_has_all_figures():
    """Each server's throughput, CPU time, latencies and errors are shown."""
    table = load_table({OURS: [sample(1000, cpu_seconds=0.2, errors=2)]})
    assert "| /read | 1000       | 200       | 0.90   | 2.00   | 2      |" in table


def test_text_json_and_picture_say_the_same():
    """What a session adds is in the table, the data and the picture."""
    pairs = [added(path, "ours") for path in ("/read", "/write")]
    taken = {
        scenario: [sample(cpu_seconds=cpu)]
        for (scenario, bare), cpu in zip(pairs, (0.15, 0.19), strict=True)
    } | {pairs[0][1]: [sample(cpu_seconds=0.1)]}
    report = Report([], QUICK, {}, {"main": taken}, {})
    costs = {"ours": {"without": 100, "reading": 50, "writing": 90}}
    assert json.loads(report.json())["cost"] == costs
    assert [cell.strip() for cell in report.text().splitlines()[2].split("|")][1:5] == [
        "tornado-mcsession",
        "50",
        "90",
        "100",
    ]
    drawn = ElementTree.fromstring(picture.bars(costs, COMPARED))
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[-3:] == ["tornado-mcsession", "50", "90"]


def test_the_page_is_filled_between_its_markers():
    """What is written by hand stays; a page without a marker is an error."""
    page = "a\n<!-- measured: x -->\nold\n<!-- end -->\nb\n"
    new = filled(page, {"x": "new"})
    assert new == page.replace("old", "new")
    assert filled(new, {"x": "new"}) == new
    with pytest.raises(ValueError, match="no section 'y'"):
        filled(page, {"y": ""})


def test_the_page_has_all_rows():
    """docs/performance.md and its data were written by one run of these rows."""
    page, figures = PAGE.read_text(), json.loads(FIGURES.read_text())
    assert [row["name"] for row in figures["rows"]] == [row.name for row in ROWS]
    for row in figures["rows"]:
        assert f"| {row['what']} " in page
        assert row.get("shown", "not measured: ") in page
    assert filled(page, {"run": "", "cost": "", "rows": "", "servers": ""}) != page
