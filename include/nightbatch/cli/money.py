"""Commands for money: what a run will cost, and what a year of batches would save."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from nightbatch.cli.options import AsJson, JobTypes, MaxJobs, Providers, job_type_names, one_provider, provider_names
from nightbatch.cli.output import NEEDS_A_PERSON, Misuse, echo, open_ledger, print_json, report_errors, show
from nightbatch.core.models import ProviderName


def estimate(
    providers: Providers = "",
    job_types: JobTypes = "",
    max_jobs: MaxJobs = None,
    from_day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="Price past days sent again.")
    ] = None,
    to_day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="The last of them, inclusive.")
    ] = None,
    to_model: Annotated[str | None, typer.Option(help="With --from-day: by this model.")] = None,
    to_provider: Annotated[
        ProviderName | None, typer.Option(callback=one_provider, help="With --from-day: by this provider.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run would send now, and about what it will cost.

    Within the budgets; nothing is sent or written. From the least to the most: by a tokenizer and the longest answers
    allowed, then by what earlier nights took. With --from-day: what the jobs of past days would cost if they were sent
    again.
    """
    from nightbatch.cli import estimate as shown

    with report_errors(as_json):
        if from_day is None and (to_day or to_model or to_provider):
            raise Misuse("--to-day, --to-model and --to-provider go with --from-day.")
        if from_day is not None and providers:
            raise Misuse("--providers is for the queue; past days go by --to-provider.")
        names, types = provider_names(providers), job_type_names(job_types)
        with open_ledger() as store:
            if from_day is None:
                found = shown.of_the_queue(store, names, types, max_jobs)
            else:
                found = shown.of_the_past(
                    store, from_day, to_day or from_day, job_types=types, max_jobs=max_jobs,
                    to_model=to_model, to_provider=to_provider,
                )  # fmt: skip
    if as_json:
        print_json(shown.to_json(found))
    elif found:
        show(shown.table(found))
    else:
        echo("Nothing is due, or the budgets have no room for it.")


def calculate(
    calls_a_day: Annotated[int, typer.Argument(metavar="CALLS_A_DAY", min=1, max=10**12, help="Of the one job type.")],
    job_type: Annotated[str, typer.Option(help="Such as creative_scoring.")],
    model: Annotated[str | None, typer.Option(help="The provider's default of the type if not given.")] = None,
    provider: Annotated[
        ProviderName | None, typer.Option(callback=one_provider, help="The one whose model it is if not given.")
    ] = None,
    input_tokens: Annotated[int | None, typer.Option(min=0, help="Of one call.")] = None,
    output_tokens: Annotated[int | None, typer.Option(min=0, help="Of one call.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what batches would save in a year of so many calls a day. Works without a database.

    With NIGHTBATCH_DSN the tokens are those of the last 30 days and the prices heed nightbatch.price_override; without it
    they are those of the type's example. Exit code 1 when the model has no known price.
    """
    from nightbatch.cli import calculation
    from nightbatch.job_types import job_types
    from nightbatch.planning import calculator

    with report_errors(as_json), calculation.database_if_any() as store:
        found = calculator.yearly(
            calls_a_day, job_type, model, types=job_types(), provider=provider, input_tokens=input_tokens,
            output_tokens=output_tokens, store=store,
        )  # fmt: skip
    if as_json:
        print_json(calculation.to_json(found))
    else:
        calculation.tell(found)
    raise typer.Exit(NEEDS_A_PERSON if found.savings_usd is None else 0)
