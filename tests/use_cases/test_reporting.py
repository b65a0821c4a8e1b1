"""Reports: the same figures in every format, for a night and for any range; text from outside stays text."""

from __future__ import annotations

import csv
import io
import json
import re
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nightbatch import reporting
from nightbatch.core.amounts import usd
from nightbatch.reporting import RangeReport, stats
from nightbatch.reporting.as_markdown import plain
from nightbatch.reporting.stats import Days
from tests.unguarded import unguarded
from tests.use_cases.conftest import World

BY = ("day", "provider", "model", "job_type", "label")
COUNTS = ("jobs", "succeeded", "failed", "unpriced")
MONEY = {"realtime": "realtime_cost_usd", "batch": "batch_cost_usd", "waste": "wasted_cost_usd", "saved": "savings_usd"}
HOSTILE = "<script>alert(1)</script>"


def three_nights(world: World) -> Days:
    """Six, four and one days ago, with failures, waste, labels and an unpriced model; the week that ended yesterday."""
    world.insert("openai", 4, labels=json.dumps({"team": "ads"}))
    world.insert("anthropic", 3, labels=json.dumps({"team": "shop"}))
    night(world, "r1", days_ago=6)
    world.insert("gemini", 3, headline="[[emulator:misfit]]", labels=json.dumps({"team": "ads"}))
    world.insert("openai", 2, model="emulator-preview-1")
    night(world, "r2", days_ago=4)
    world.insert("openai", 5)
    night(world, "r3", days_ago=1)
    today = stats.last_days(world.store, 1).since
    return Days(today - timedelta(days=7), today - timedelta(days=1))


def night(world: World, run_id: str, *, days_ago: int) -> None:
    """A run as if it had been sent some days earlier."""
    world.night(run_id)
    values = {"run_id": run_id, "days": days_ago}
    for change in (
        "UPDATE nightbatch.batch SET submitted_at = submitted_at - make_interval(days => %(days)s) WHERE run_id = %(run_id)s",
        "UPDATE nightbatch_report.label_rollup SET day = day - %(days)s WHERE batch_id IN"
        " (SELECT id FROM nightbatch.batch WHERE run_id = %(run_id)s)",
        "UPDATE nightbatch_report.batch_rollup SET day = day - %(days)s WHERE run_id = %(run_id)s",
    ):
        world.store.connection.execute(change, values)


def terminal(report: reporting.AnyReport) -> str:
    console = Console(width=100, file=io.StringIO(), force_terminal=True)
    with console.capture() as caught:
        console.print(reporting.render_terminal(report))
    return caught.get()


class Page(HTMLParser):
    """The tables of a page by their titles, all tags with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: dict[str, list[str]] = {}
        self._title = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "tr":
            self.tables.setdefault(self._title, []).append([])
        if tag in ("td", "th"):
            self.tables[self._title][-1].append("")

    def handle_data(self, data: str) -> None:
        tag = self.tags[-1] if self.tags else ""
        self.texts.setdefault(tag, []).append(data)
        if tag == "h2" and data.strip():
            self._title = data
        if tag in ("td", "th") and data.strip():
            self.tables[self._title][-1][-1] += data


def markdown_tables(page: str) -> dict[str, list[list[str]]]:
    """By title: cells as they are read, that is without their escapes."""
    found: dict[str, list[list[str]]] = {}
    title = ""
    for line in page.splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif line.startswith("|") and not line.startswith("|---"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found.setdefault(title, []).append([re.sub(r"\\(.)", r"\1", cell.strip()) for cell in cells])
    return found


def as_told(key: str, figures: Mapping[str, Any]) -> dict[str, str]:
    """What a table for people should say of these figures."""
    counts = {name: f"{figures[name]:,}" for name in COUNTS}
    money = {name: usd(Decimal(figures[field])) for name, field in MONEY.items()}
    return {"key": key, **counts, **money}


def told_by(tables: Mapping[str, list[list[str]]], by: str) -> list[dict[str, str]]:
    columns, *rows = tables[f"By {by.replace('_', ' ')}"]
    names = ["key", *columns[1:]]
    wanted = ("key", *COUNTS, *MONEY)
    return [{name: cell for name, cell in zip(names, row, strict=True) if name in wanted} for row in rows]


def csv_rows(report: reporting.AnyReport, by: str) -> dict[str, dict[str, str]]:
    return {row["key"]: row for row in csv.DictReader(io.StringIO(reporting.render_csv(report))) if row["by"] == by}


def test_all_formats_tell_the_same_figures_of_a_range(world: World) -> None:
    report = reporting.range_report(world.store, three_nights(world))
    values = json.loads(json.dumps(reporting.to_json(report)))
    markdown, page = markdown_tables(reporting.render_markdown(report)), Page(reporting.render_html(report)).tables
    assert values["jobs"] == 17 and values["unpriced"] == 2 and Decimal(values["wasted_cost_usd"]) > 0
    for by in BY:
        parts = values[f"by_{by}"]
        expected = [as_told(key, figures) for key, figures in parts.items()]
        assert len(expected) > 1 or by == "job_type"
        assert told_by(markdown, by) == expected and told_by(page, by) == expected
        rows = csv_rows(report, by)
        for key, figures in parts.items():
            fields = [name for name in rows[key] if name not in ("by", "key", "priced_with")]
            assert {name: rows[key][name] for name in fields} == {name: str(figures.get(name, "")) for name in fields}
    (total,) = csv_rows(report, "total").values()
    assert (total["jobs"], total["savings_usd"]) == (str(values["jobs"]), values["savings_usd"])
    saved = f"Saved {usd(Decimal(values['savings_usd']))} "
    assert saved in terminal(report).replace("\x1b[0m", "").replace("\x1b[1;32m", "").replace("\x1b[1m", "")


def test_all_formats_tell_the_same_figures_of_a_night(world: World) -> None:
    three_nights(world)
    report = reporting.run_report(world.store, "r2")
    values = reporting.to_json(report)
    title = "By provider and job type"
    (_, *from_markdown), (_, *from_html) = (
        markdown_tables(reporting.render_markdown(report))[title],
        Page(reporting.render_html(report)).tables[title],
    )
    assert from_markdown == from_html and [row[0] for row in from_html] == ["gemini", "openai"]
    for provider, _, sent, succeeded, failed, _, _, *money in from_html:
        figures = values["by_provider"][provider]
        row = csv_rows(report, "provider")[provider]
        assert [sent, succeeded, failed] == [str(figures[name]) for name in ("jobs", "succeeded", "failed")]
        assert money == [usd(Decimal(figures[field])) for field in MONEY.values()]
        assert [row[field] for field in MONEY.values()] == [figures[field] for field in MONEY.values()]


def test_a_range_is_the_sum_of_its_nights(world: World) -> None:
    days = three_nights(world)
    found = reporting.range_report(world.store, days)
    nights = [reporting.run_report(world.store, run_id).totals for run_id in ("r1", "r2", "r3")]
    by_day = {part.key: part.figures for part in found.savings.by_day}
    assert list(by_day) == [str(days.until - timedelta(days=ago)) for ago in (5, 3, 0)]
    for part, totals in zip(by_day.values(), nights, strict=True):
        assert (part.jobs, part.succeeded, part.failed) == (totals.jobs, totals.succeeded, totals.failed)
        assert part.savings_usd == totals.savings_usd and part.batch_cost_usd == totals.batch_cost_usd
    assert found.savings.total.savings_usd == sum(totals.savings_usd for totals in nights)
    together = reporting.run_report(world.store, "r1", "r2", "r3").totals
    assert (together.jobs, together.savings_usd) == (found.jobs, found.savings.total.savings_usd)


def test_the_running_total_counts_what_was_saved_before_the_range(world: World) -> None:
    days = three_nights(world)
    first, second, third = (reporting.run_report(world.store, run).totals.savings_usd for run in ("r1", "r2", "r3"))
    late = reporting.range_report(world.store, Days(days.until - timedelta(days=3), days.until))
    assert late.running_totals == [first + second, first + second + third]
    assert late.saved_so_far_usd == first + second + third
    assert late.first_day == days.until - timedelta(days=5)
    told = [figures["running_total_usd"] for figures in reporting.to_json(late)["by_day"].values()]
    assert [Decimal(value) for value in told] == late.running_totals
    assert f"Saved since the beginning ({late.first_day}): {usd(late.saved_so_far_usd)}." in reporting.render_markdown(
        late
    )
    early = reporting.range_report(world.store, days.before())
    assert early.first_day is None and early.saved_so_far_usd == 0 and not early.running_totals


def test_the_trend_is_told_in_a_sentence(world: World) -> None:
    days = three_nights(world)
    report = reporting.range_report(world.store, days)
    assert f"There is no trend yet: $0.00 in the 7 days before ({days.before().since} to {days.before().until})." in (
        reporting.render_markdown(report)
    )
    world.store.connection.execute(
        "INSERT INTO nightbatch_report.batch_rollup"
        " SELECT batch_id + 1000, job_type, run_id, day - 7, provider, model, jobs, succeeded, failed, requeued,"
        " input_tokens, cached_tokens, output_tokens, realtime_cost_usd * 2, batch_cost_usd * 2, wasted_cost_usd * 2, 0, 0, 0"
        " FROM nightbatch_report.batch_rollup"
    )
    assert "50% less than $" in reporting.render_markdown(reporting.range_report(world.store, days))
    night_before = Days(days.until - timedelta(days=7), days.until - timedelta(days=7))
    assert " in the day before (" in reporting.render_html(reporting.range_report(world.store, night_before))


def test_thirty_days_without_anything_are_a_report_of_nothing(world: World) -> None:
    report = reporting.range_report(world.store, stats.last_days(world.store))
    values = reporting.to_json(report)
    assert (values["jobs"], values["savings_usd"], values["by_day"], values["trend"]) == (0, "0", {}, None)
    page = Page(reporting.render_html(report))
    assert "svg" not in page.tags and page.tables == {}
    assert "Nothing was priced." in reporting.render_markdown(report) and "Saved" in terminal(report)
    assert csv_rows(report, "total").popitem()[1]["jobs"] == "0"


def test_thirty_days_with_a_few_nights_have_charts_with_a_place_for_each_day(world: World) -> None:
    three_nights(world)
    page = reporting.render_html(reporting.range_report(world.store, stats.last_days(world.store)))
    assert page.count("<svg") == 7
    assert len(re.findall(r"<title>\d{4}-\d\d-\d\d: \$", page)) == 30 + 30, "savings and running total"
    assert len(re.findall(r"<title>\d{4}-\d\d-\d\d: [\d.]+%", page)) == 3


def test_every_format_says_what_was_priced_how_and_what_is_assumed(world: World) -> None:
    days = three_nights(world)
    for report in (reporting.run_report(world.store, "r2"), reporting.range_report(world.store, days)):
        values = reporting.to_json(report)
        sources = {f"{row['provider']}/{row['model']}": row["source"] for row in values["prices"]}
        priced = str(next(source for source in sources.values() if source)).partition(";")[0]
        assert priced.startswith("genai-prices") and sources["openai/emulator-preview-1"] is None
        assert len(values["assumptions"]) >= 6
        markdown, html = reporting.render_markdown(report), reporting.render_html(report)
        from_csv = csv_rows(report, "price")
        assert from_csv["openai/emulator-preview-1"]["priced_with"] == "unpriced"
        assert {key: row["priced_with"] for key, row in from_csv.items()} == {
            key: source or "unpriced" for key, source in sources.items()
        }
        assert list(csv_rows(report, "assumption")) == values["assumptions"]
        assert all(plain(sentence) in markdown for sentence in values["assumptions"])
        assert set(values["assumptions"]) <= set(Page(html).texts["li"])
        for shown in (markdown, html, terminal(report)):
            assert f"Priced with {priced}" in shown
            assert "2 answers are unpriced and in no sum: openai/emulator-preview-1" in shown.replace("\\", "")


def hostile(world: World, text: str) -> list[reporting.AnyReport]:
    """A night at a loss, and its range, after this text came in as a label, a job type, a model, an error and a price's note."""
    world.insert("gemini", 2, headline="[[emulator:misfit]]", labels=json.dumps({text: text}))
    world.night("r1")
    values = {"text": text}
    for change in (
        "UPDATE nightbatch.batch SET model = %(text)s, price_source = %(text)s",
        "UPDATE nightbatch.result SET error = %(text)s",
        "UPDATE nightbatch_report.batch_rollup SET model = %(text)s, job_type = %(text)s,"
        " wasted_cost_usd = wasted_cost_usd * 3",
    ):
        with unguarded(world.store.connection):
            world.store.connection.execute(change, values)
    return [
        reporting.run_report(world.store, "r1"),
        reporting.range_report(world.store, stats.last_days(world.store)),
    ]


@pytest.mark.fault(55)
def test_script_in_a_model_a_label_or_an_error_is_shown_as_text(world: World) -> None:
    for report in hostile(world, HOSTILE):
        page = Page(reporting.render_html(report))
        assert "script" not in page.tags and page.tags.count("svg") == page.tags.count("figure") > 1
        cells = [cell for rows in page.tables.values() for row in rows for cell in row]
        assert cells.count(HOSTILE) >= 3
        markdown = reporting.render_markdown(report)
        assert "<script" not in markdown and "&lt;script&gt;alert\\(1\\)" in markdown


@pytest.mark.fault(55)
def test_text_from_outside_cannot_steer_a_terminal(world: World) -> None:
    for report in hostile(world, "\x1b]0;owned\x07\x1b[2J\u202emodel"):
        shown = terminal(report)
        assert "owned" in shown
        assert not re.search("\x1b(?!\\[[0-9;]*m)|\x07|\u202e", shown), "nothing but rich's own colours"


@pytest.mark.fault(56)
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "＝", "＋", "－", "＠"])
def test_a_cell_of_the_csv_is_never_a_formula(world: World, sign: str) -> None:
    text = f"{sign}cmd|'/c calc'!A1"
    for report in hostile(world, text):
        rows = list(csv.reader(io.StringIO(reporting.render_csv(report))))
        assert any(cell.startswith("'") and text in cell for row in rows for cell in row)
        assert not [cell for row in rows for cell in row if cell.lstrip(" ").startswith(tuple("=+@\t\r\n＝＋－＠"))]
        assert not [cell for row in rows for cell in row if cell.startswith("-") and not re.fullmatch(r"-[\d.]+", cell)]
        assert csv_rows(report, "total").popitem()[1]["savings_usd"].startswith("-"), "a loss stays a number"


@pytest.mark.fault(56)
def test_markdown_from_outside_is_escaped(world: World) -> None:
    text = "a|b [x](http://evil.example) ![i](j) **c** `d` # e\n| f |"
    for report in hostile(world, text):
        page = reporting.render_markdown(report)
        assert not re.search(r"(?<!\\)\]\(|(?<!\\)!\[|(?<!\\)`", page)
        cells = [cell for rows in markdown_tables(page).values() for row in rows for cell in row]
        assert " ".join(text.split()) in cells
        widths = {title: {len(row) for row in rows} for title, rows in markdown_tables(page).items()}
        assert all(len(lengths) == 1 for lengths in widths.values()), "no row has got another cell"


def test_the_page_needs_nothing_else_and_runs_nothing(world: World) -> None:
    days = three_nights(world)
    for report in (reporting.run_report(world.store, "r1"), reporting.range_report(world.store, days)):
        text = reporting.render_html(report)
        page = Page(text)
        assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"} & set(page.tags)
        assert not [
            found for found in page.attributes if found[1] in ("src", "href", "style") or found[1].startswith("on")
        ]
        assert page.tags.count("style") == 1 and not re.search(r"url\(|@import", text)
        policy = [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
        assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
        named = {value for tag, name, value in page.attributes if (tag, name) == ("svg", "role")}
        assert named == {"img"}


def test_a_year_is_rendered_in_every_format_within_seconds(world: World) -> None:
    world.store.connection.execute(
        "INSERT INTO nightbatch_report.batch_rollup SELECT n * 30 + b, 'type-' || b % 5, 'r' || n, current_date - n,"
        " (ARRAY['openai', 'anthropic', 'gemini'])[b % 3 + 1], 'model-' || b % 6,"
        " 92, 90, 2, 0, 1000, 0, 500, 0.02, 0.01, 0, 0, 0, 0"
        " FROM generate_series(0, 364) AS n, generate_series(0, 29) AS b"
    )
    report = reporting.range_report(world.store, stats.last_days(world.store, 365))
    began = time.perf_counter()
    page = Page(reporting.render_html(report))
    took = time.perf_counter() - began
    assert len(page.tables["By day"]) == 1 + 365 and page.tags.count("svg") == 6
    reporting.render_csv(report), reporting.render_markdown(report), terminal(report)
    print(f"a year as HTML: {took * 1000:.0f} ms; all formats: {(time.perf_counter() - began) * 1000:.0f} ms")
    assert took < 5, "generous: a busy machine"


def test_a_long_table_is_cut_on_the_terminal_and_says_so(world: World) -> None:
    world.store.connection.execute(
        "INSERT INTO nightbatch_report.batch_rollup SELECT n, 'type', 'r' || n, current_date - n, 'openai',"
        " 'model-' || to_char(n, 'FM00'), 1, 1, 0, 0, 1, 0, 1, 2, 1, 0, 0, 0, 0 FROM generate_series(0, 39) AS n"
    )
    report = reporting.range_report(world.store, stats.last_days(world.store, 40))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal(report))
    days = [part.key for part in report.savings.by_day]
    assert "By day (the last 31; the other formats have all)" in shown and "By model (the first 31;" in shown
    assert days[-1] in shown and days[9] in shown and not re.search(f"^{days[8]} ", shown, re.MULTILINE)
    assert "openai/model-00" in shown and "openai/model-31" not in shown


def test_a_report_is_kept_in_four_files(world: World, tmp_path: Path) -> None:
    three_nights(world)
    report = reporting.run_report(world.store, "r1")
    folder = tmp_path / "new" / "reports"
    reporting.keep(folder, "scheduled__2026-11-24T02:00:00+00:00/ä", report)
    name = "scheduled__2026-11-24T02_00_00_00_00__"
    assert {file.name for file in folder.iterdir()} == {f"{name}.{kind}" for kind in ("csv", "html", "json", "md")}
    assert json.loads((folder / f"{name}.json").read_text()) == reporting.to_json(report)
    assert (folder / f"{name}.csv").read_bytes().decode() == reporting.render_csv(report)
    assert (folder / f"{name}.html").read_text() == reporting.render_html(report)
    assert (folder / f"{name}.md").read_text() == reporting.render_markdown(report)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: a larger file cannot be finished."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_report_whole_and_no_rubbish(world: World, tmp_path: Path) -> None:
    three_nights(world)
    old, new = reporting.run_report(world.store, "r1"), reporting.run_report(world.store, "r2")
    reporting.keep(tmp_path, "r", old)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with files_of_at_most(500), pytest.raises(OSError, match="too large"):
        reporting.keep(tmp_path, "r", new)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    reporting.keep(tmp_path, "r", new)
    assert {file.name for file in tmp_path.iterdir()} == set(before)
    assert json.loads((tmp_path / "r.json").read_text())["run_id"] == "r2"


def test_range_and_night_share_their_parts(world: World) -> None:
    """One night's range and the night itself: the same parts by provider."""
    world.insert("openai", 3)
    world.insert("gemini", 2)
    world.night("r1")
    run = reporting.to_json(reporting.run_report(world.store, "r1"))
    days: RangeReport = reporting.range_report(world.store, stats.last_days(world.store, 1))
    told = reporting.to_json(days)
    names = ("jobs", "succeeded", "failed", *MONEY.values())
    for by in ("by_provider", "by_job_type"):
        assert {key: [part[name] for name in names] for key, part in told[by].items()} == {
            key: [part[name] for name in names] for key, part in run[by].items()
        }
