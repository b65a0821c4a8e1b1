"""Charts are text and shapes only, whatever their keys hold, and can be read on a small screen in light and in dark."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from importlib import resources
from xml.etree import ElementTree as ET

import pytest

from nightbatch.postgres.sums import Figures, Slice, Turnaround
from nightbatch.reporting import charts
from nightbatch.reporting.stats import Days

SVG = "{http://www.w3.org/2000/svg}"
SINCE = date(2026, 1, 5)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</svg><a href='https://evil.example'>",
    "a\x00b\x1b[31m",
    "]]><!--",
)


def figures(saved: str, *, succeeded: int = 9, failed: int = 1) -> Figures:
    usd, zero = Decimal(saved), Decimal(0)
    return Figures(succeeded + failed, succeeded, failed, 0, 0, 0, 0, 0, 0, 0, 0, 2 * usd, usd, zero, usd)


def days(count: int) -> Days:
    return Days(SINCE, SINCE + timedelta(days=count - 1))


def each_day(count: int, *, every: int = 1) -> list[Slice]:
    return [
        Slice((SINCE + timedelta(days=number)).isoformat(), figures(str(number + 1)))
        for number in range(0, count, every)
    ]


def turnaround(*models: str) -> list[Turnaround]:
    return [Turnaround("openai", model, 3, 4000.0, 9000.0, 9000.0, 9000.0) for model in models]


def every_chart(keys: Iterable[str] = ("openai", "anthropic")) -> list[str]:
    by_day = each_day(30)
    made = (
        charts.savings_by_day(days(30), by_day),
        charts.running_total(days(30), by_day, [Decimal(number) for number in range(1, 31)]),
        charts.success_by_day(days(30), by_day),
        charts.share_by("model", {key: Decimal(3 + number) for number, key in enumerate(keys)}),
        charts.turnaround(turnaround(*keys)),
    )
    assert all(made)
    return [chart for chart in made if chart]


def titles(chart: str) -> list[str]:
    """What the bars and points say of themselves."""
    return [title.text or "" for title in ET.fromstring(chart).findall(f"{SVG}*//{SVG}title")]


def bars(chart: str) -> list[ET.Element]:
    return [node for node in ET.fromstring(chart).iter(f"{SVG}rect") if "reactive" in node.get("class", "").split()]


@pytest.mark.fault(55)
def test_a_chart_is_shapes_and_text_whatever_its_keys_hold() -> None:
    for chart in every_chart(HOSTILE):
        root = ET.fromstring(chart)
        assert {node.tag.removeprefix(SVG) for node in root.iter()} <= {
            "svg",
            "g",
            "rect",
            "path",
            "circle",
            "text",
            "title",
        }
        names = {name for node in root.iter() for name in node.attrib}
        assert not [name for name in names if name in ("style", "id", "href") or name.startswith(("on", "{"))]
        assert re.findall(r"<[^>]*?xmlns[^=]*=\"([^\"]*)", chart) == ["http://www.w3.org/2000/svg"]
        assert not [
            value for node in root.iter() for name, value in node.items() if name != "aria-label" and ":" in value
        ]
    named = every_chart(HOSTILE)[3]
    assert "<script>alert(1)</script>: $3.00" in titles(named) and "a b [31m: $6.00" in titles(named)


def test_a_chart_says_what_it_shows_and_takes_the_width_that_it_gets() -> None:
    for chart in every_chart():
        root = ET.fromstring(chart)
        assert root.get("role") == "img" and root.get("aria-label", "").count(":") >= 2
        assert root.get("width") is None and root.get("height") is None
        assert root.get("viewBox", "").startswith("0 0 400 "), "at 400 px, text is as large as the style says"


@pytest.mark.parametrize(
    ("count", "unit"),
    [(1, "day"), (7, "day"), (31, "day"), (32, "week"), (217, "week"), (365, "month"), (3650, "year")],
)
def test_few_bars_and_few_dates_however_long_the_range(count: int, unit: str) -> None:
    chart = charts.savings_by_day(days(count), each_day(count))
    assert chart is not None
    root = ET.fromstring(chart)
    (axis,) = [node for node in root.iter(f"{SVG}g") if node.get("class", "").split()[:2] == ["axis", "x"]]
    assert f"Saved by {unit}, USD" in root.get("aria-label", "")
    assert 1 <= len(bars(chart)) <= 32 and 1 <= len(list(axis.iter(f"{SVG}text"))) <= 4
    assert "rotate" not in chart
    told = sum(Decimal(said.rpartition("$")[2].replace(",", "")) for said in titles(chart))
    assert told == sum(range(1, count + 1)), "every day is in one of the bars"


def test_a_day_without_anything_is_an_empty_bar_and_no_success_rate() -> None:
    by_day = each_day(10, every=3)
    saved, success = charts.savings_by_day(days(10), by_day), charts.success_by_day(days(10), by_day)
    assert saved and success
    assert [said.partition(": ")[2] for said in titles(saved)] == [
        "$1.00", "$0.00", "$0.00", "$4.00", "$0.00", "$0.00", "$7.00", "$0.00", "$0.00", "$10.00",
    ]  # fmt: skip
    assert titles(success) == [f"2026-01-{day:02}: 90.0%" for day in (5, 8, 11, 14)]


def test_the_running_total_stays_where_it_was_on_days_without_anything() -> None:
    chart = charts.running_total(days(10), each_day(10, every=4), [Decimal(101), Decimal(106), Decimal(115)])
    assert chart is not None
    told = [said.partition(": ")[2] for said in titles(chart)]
    assert told == ["$101.00"] * 4 + ["$106.00"] * 4 + ["$115.00"] * 2
    late = charts.running_total(days(3), each_day(3)[1:], [Decimal(7), Decimal(10)])
    assert late and titles(late)[0] == "2026-01-05: $5.00", "what was saved before the range"


def test_shares_begin_with_the_largest_and_end_with_the_others_together() -> None:
    chart = charts.share_by(
        "model", {f"m{number}": Decimal(number) for number in range(1, 21)} | {"nothing": Decimal(0)}
    )
    assert chart is not None
    label = ET.fromstring(chart).get("aria-label", "")
    assert label.startswith("Saved by model, USD. m20: $20.00; m19: $19.00;")
    assert label.endswith("m13: $13.00; 12 others: $78.00")
    assert len(bars(chart)) == 9
    tops = {said: float(bar.get("y", 0)) for said, bar in zip(titles(chart), bars(chart), strict=True)}
    assert min(tops, key=lambda said: tops[said]) == "m20: $20.00", "the largest is on top"


def test_a_loss_is_drawn_to_the_other_side() -> None:
    chart = charts.share_by("provider", {"openai": Decimal(4), "gemini": Decimal(-2)})
    assert chart is not None
    left, right = sorted(bars(chart), key=lambda bar: float(bar.get("x", 0)))
    assert float(left.get("x", 0)) + float(left.get("width", 0)) == pytest.approx(float(right.get("x", 0)), abs=0.01)
    assert "gemini: $-2.00" in titles(chart)


def test_long_names_are_shortened_in_the_middle_and_whole_in_the_title() -> None:
    twins = {f"anthropic/claude-with-a-long-{name}-20261001": Decimal(1) for name in ("first", "other")}
    chart = charts.share_by("model", twins)
    assert chart is not None
    texts = [node.text or "" for node in ET.fromstring(chart).iter(f"{SVG}text")]
    assert max(map(len, texts)) <= 28 and sum("…" in text for text in texts) == 2
    assert {said.partition(":")[0] for said in titles(chart)} == set(twins)


def test_turnaround_shows_the_models_with_the_most_batches_in_two_bars_each() -> None:
    chart = charts.turnaround(turnaround("m"))
    assert chart and sorted(titles(chart)) == ["openai/m 90 % in: 2 h 30 min", "openai/m half in: 1 h 6 min"]
    many = charts.turnaround(turnaround(*(f"m{number}" for number in range(20))))
    assert many and len([said for said in titles(many) if "half" in said]) == 6


def test_nothing_to_draw_is_no_chart() -> None:
    empty = [Slice(SINCE.isoformat(), figures("0", succeeded=0, failed=0))]
    for by_day in ([], empty):
        assert charts.savings_by_day(days(30), by_day) is None
        assert charts.success_by_day(days(30), by_day) is None
        assert charts.running_total(days(30), by_day, [Decimal(0)] * len(by_day)) is None
    assert charts.share_by("model", {}) is None and charts.share_by("model", {"a": Decimal(0)}) is None
    assert charts.turnaround([]) is None


@pytest.mark.parametrize("value", ["0.0000004", "0.0123", "1234567"])
def test_small_and_large_amounts_are_told_in_plain_digits(value: str) -> None:
    chart = charts.savings_by_day(days(2), [Slice(SINCE.isoformat(), figures(value))])
    assert chart is not None
    texts = [node.text or "" for node in ET.fromstring(chart).iter(f"{SVG}text")]
    scale = [text for text in texts if text.startswith("$")]
    assert len(scale) >= 2 and all(re.fullmatch(r"\$[\d.]+[kM]?", text) for text in scale)


def test_colours_differ_enough_from_every_ground_they_stand_on() -> None:
    """3:1 for shapes, 4.5:1 for words: https://www.w3.org/TR/WCAG22/#non-text-contrast"""
    page = (resources.files("nightbatch.reporting") / "page.html").read_text()
    grounds = list(zip(_all(page, "ground"), _all(page, "raised"), strict=True))
    light, dark = grounds[0], grounds[1]
    for name, least in (("1", 3), ("2", 3), ("ink", 4.5), ("soft", 4.5)):
        values = _all(charts.CHART_CSS, f"chart-{name}")
        assert len(values) == 3 and values[1] == values[2], "light, dark by the screen, dark by the page"
        for value, against in ((values[0], light), (values[1], dark)):
            assert min(_contrast(value, ground) for ground in against) >= least, (name, value)


def test_the_style_knows_every_variable_that_it_uses_and_loads_nothing() -> None:
    css = charts.CHART_CSS
    assert set(re.findall(r"var\((--[\w-]+)\)", css)) <= set(re.findall(r"(--[\w-]+):", css))
    assert "url(" not in css and "@import" not in css and "<" not in css


def _all(css: str, name: str) -> list[str]:
    return re.findall(rf"--{name}: (#[0-9a-f]{{6}})", css)


def _contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_batches_that_took_no_time_and_days_at_a_loss_can_be_drawn() -> None:
    loss = [Slice(SINCE.isoformat(), figures("-5", succeeded=0, failed=3))]
    made = (
        charts.turnaround([Turnaround("openai", "m", 3, 0.0, 0.0, 0.0, 0.0)]),
        charts.savings_by_day(days(2), loss),
        charts.running_total(days(2), loss, [Decimal(-5)]),
        charts.success_by_day(days(2), loss),
        charts.share_by("provider", {"openai": Decimal(-5)}),
    )
    for chart in made:
        assert chart and titles(chart) and "nan" not in chart and "inf" not in chart


def test_what_pygal_hangs_into_pythons_imports_is_taken_out_again() -> None:
    assert [finder for finder in sys.meta_path if not hasattr(finder, "find_spec")] == []
