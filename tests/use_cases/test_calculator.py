"""A year's savings before anything is sent: the figures in the documentation are the code's own."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from nightbatch.core.amounts import usd
from nightbatch.core.errors import ConfigurationError
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.planning import calculator
from tests.use_cases.conftest import World

PAGE = Path(__file__).parents[2] / "docs" / "savings-calculator.md"
DAY = datetime(2026, 11, 24, tzinfo=UTC)
"""The day whose prices the documentation uses."""
TYPES = job_types()


def table() -> list[list[str]]:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in rows[2:]]


def test_the_worked_example_of_the_documentation_is_what_the_code_says() -> None:
    rows = table()
    assert {row[0] for row in rows} == {"1,000", "10,000"} and len(rows) >= 8
    for calls, job_type, provider, model, tokens_in, tokens_out, *money in rows:
        found = calculator.yearly(int(calls.replace(",", "")), job_type, model, types=TYPES, provider=provider, at=DAY)
        assert found.realtime_usd and found.batch_usd and found.savings_usd
        assert [f"{found.input_tokens:,}", f"{found.output_tokens:,}"] == [tokens_in, tokens_out]
        assert [usd(found.realtime_usd), usd(found.batch_usd), usd(found.savings_usd)] == money


def test_the_documentation_works_its_first_row_out_by_hand() -> None:
    """From the unit prices that stand in the text, without the code that is checked."""
    text = " ".join(PAGE.read_text().split())
    first = table()[0]
    found = re.search(r"\(([\d,]+) × ([\d.]+) \+ ([\d,]+) × ([\d.]+)\) / 1,000,000 × ([\d,]+) × 365 = ([\d.]+)", text)
    assert found
    tokens_in, price_in, tokens_out, price_out, calls, told = (
        Decimal(part.replace(",", "")) for part in found.groups()
    )
    year = (tokens_in * price_in + tokens_out * price_out) / 1_000_000 * calls * 365
    assert round(year, 2) == told and usd(year) == first[6]


def test_ten_times_the_calls_save_ten_times_as_much() -> None:
    one, ten = (calculator.yearly(calls, "creative_scoring", types=TYPES, at=DAY) for calls in (1_000, 10_000))
    assert one.savings_usd and ten.savings_usd == 10 * one.savings_usd
    assert one.batch_usd == one.savings_usd == (one.realtime_usd or 0) / 2, "batches cost half"


def test_a_year_has_365_days_and_a_call_the_price_for_its_length() -> None:
    for tokens, per_million in ((100_000, "0.10"), (1_000_000, "0.20")):  # a long call costs more per token
        found = calculator.yearly(
            1, "creative_scoring", "gpt-6-luna", types=TYPES, input_tokens=tokens, output_tokens=0, at=DAY
        )
        assert found.realtime_usd == 365 * Decimal(per_million) * tokens / 1_000_000
        assert (found.tokens_from, found.cached_tokens) == ("as given", 0)


def test_without_a_model_the_provider_s_default_is_taken_and_without_a_provider_the_model_s() -> None:
    for provider, model in TYPES["creative_scoring"].models.items():
        by_provider = calculator.yearly(5, "creative_scoring", types=TYPES, provider=provider, at=DAY)
        by_model = calculator.yearly(5, "creative_scoring", model, types=TYPES, at=DAY)
        assert by_provider == by_model and (by_model.provider, by_provider.model) == (provider, model)
    listed = calculator.yearly(5, "creative_scoring", "claude-opus-4-5", types=TYPES, at=DAY)
    assert listed.provider == "anthropic", "nobody's default, but anthropic's"


def test_an_unknown_price_is_said_and_not_guessed() -> None:
    unknown = calculator.yearly(1_000, "creative_scoring", "my-own-model", types=TYPES, provider="openai", at=DAY)
    assert (unknown.realtime_usd, unknown.batch_usd, unknown.savings_usd, unknown.price_source) == (None,) * 4
    assert unknown.input_tokens > 0
    before_batch_prices = datetime(2026, 10, 1, tzinfo=UTC)
    assert calculator.yearly(1_000, "creative_scoring", types=TYPES, at=before_batch_prices).savings_usd is None


@pytest.mark.parametrize(
    ("job_type", "model", "provider", "told"),
    [
        ("scoring", None, None, "no job type 'scoring'; there are bulk_predictions"),
        ("creative_scoring", "my-own-model", None, "Whose model is 'my-own-model'"),
        ("embedding_generation", None, "anthropic", "no model at anthropic"),
        ("historical_reprocessing", None, None, "give its tokens"),
    ],
)
def test_what_does_not_go_together_is_told(
    job_type: str, model: str | None, provider: ProviderName | None, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        calculator.yearly(1_000, job_type, model, types=TYPES, provider=provider, at=DAY)


def test_every_type_has_a_figure_once_its_tokens_are_given() -> None:
    for name, kind in TYPES.items():
        found = calculator.yearly(
            1, name, "gpt-6-luna", types=TYPES, provider="openai", input_tokens=10, output_tokens=1
        )
        assert found.tokens_from == "as given" and found.job_type == kind.name


def test_what_the_nights_measured_goes_before_the_example_and_what_a_person_says_before_both(world: World) -> None:
    example = calculator.yearly(1_000, "creative_scoring", types=TYPES, store=world.store)
    assert example.tokens_from.startswith("the job type's example")
    world.insert("openai", 3)
    world.night("r1")
    world.store.connection.execute(
        "UPDATE nightbatch_report.batch_rollup SET input_tokens = 3000, cached_tokens = 1200, output_tokens = 330"
    )
    found = calculator.yearly(1_000, "creative_scoring", types=TYPES, store=world.store, at=DAY)
    assert (found.input_tokens, found.cached_tokens, found.output_tokens) == (1000, 400, 110)
    assert found.tokens_from == "the average of 3 answers of the last 30 days"
    for elsewhere in ({"provider": "gemini", "model": found.model}, {"model": "gpt-5"}):
        other = calculator.yearly(1_000, "creative_scoring", types=TYPES, store=world.store, at=DAY, **elsewhere)  # type: ignore[arg-type]
        assert other.tokens_from.startswith("the job type's example"), "of those nothing is known"
    given = calculator.yearly(1_000, "creative_scoring", types=TYPES, store=world.store, input_tokens=500, at=DAY)
    assert (given.input_tokens, given.cached_tokens, given.output_tokens) == (500, 0, 110)
    assert given.tokens_from == "input as given; output: the average of 3 answers of the last 30 days"
    short = calculator.yearly(1_000, "creative_scoring", types=TYPES, store=world.store, output_tokens=7, at=DAY)
    assert (short.input_tokens, short.cached_tokens, short.output_tokens) == (1000, 400, 7)


def test_nights_of_more_than_30_days_ago_are_no_measure(world: World) -> None:
    world.insert("openai", 2)
    world.night("r1")
    for days_ago, told in ((29, "the average of 2 answers"), (1, "the job type's example")):
        world.store.connection.execute("UPDATE nightbatch_report.batch_rollup SET day = day - %s", (days_ago,))
        found = calculator.yearly(1_000, "creative_scoring", types=TYPES, store=world.store)
        assert found.tokens_from.startswith(told)


def test_the_prices_of_a_contract_are_heeded(world: World) -> None:
    world.store.connection.execute(
        "INSERT INTO nightbatch.price_override (provider, model, valid_from, input_usd, output_usd, batch_input_usd,"
        " batch_output_usd, note) VALUES ('openai', 'my-own-model', '2026-01-01', 2, 8, 1, 4, 'our contract')"
    )
    found = calculator.yearly(
        1_000, "creative_scoring", "my-own-model", types=TYPES, store=world.store, input_tokens=1_000, output_tokens=500
    )
    assert (found.provider, found.price_source) == ("openai", "our contract")
    assert (found.realtime_usd, found.batch_usd, found.savings_usd) == (Decimal(2190), Decimal(1095), Decimal(1095))
