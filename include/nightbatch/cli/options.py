"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from nightbatch.cli.output import Misuse, parts
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profiles, why_unknown

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
By = Annotated[str, typer.Option(help="Who decides; your login name if not given.", show_default=False)]
JobTypes = Annotated[str, typer.Option(help="Comma-separated; all if not given.", show_default=False)]
MaxJobs = Annotated[int | None, typer.Option(min=1, help="At most so many jobs, highest priority first.")]
Providers = Annotated[str, typer.Option(help="Comma-separated; all if not given.", show_default=False)]
Why = Annotated[
    str,
    typer.Option("--reason", help="Why; it is kept with the decision. Asked for on a terminal.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it does, and at what price.")]
Yes = Annotated[bool, typer.Option("--yes", help="Agree to the price without being asked.")]


def provider_names(text: str) -> tuple[ProviderName, ...]:
    """Return the names between commas. Raise `Misuse` for one that is no provider's."""
    wanted = parts(text)
    if wrong := [name for name in wanted if name not in profiles()]:
        raise Misuse(f"There is no provider {', '.join(wrong)}; there are {', '.join(profiles())}.")
    return tuple(name for name in profiles() if name in wanted)


def one_provider(name: ProviderName | None) -> ProviderName | None:
    """Return the same, of an option. Raise `typer.BadParameter` for a name that is no provider's."""
    if name is not None and name not in profiles():
        raise typer.BadParameter(why_unknown(name))
    return name


def job_type_names(text: str) -> tuple[str, ...]:
    """Return the job types that a comma-separated text names. Raises `Misuse` for a name that is no job type here."""
    from nightbatch.job_types import job_types

    wanted, known = parts(text), job_types()
    if wrong := [name for name in wanted if name not in known]:
        raise Misuse(f"There is no job type {', '.join(wrong)}; there are {', '.join(sorted(known))}.")
    return wanted


def job_ids(text: str) -> tuple[int, ...]:
    """Return the ids in a comma-separated text. Raises `Misuse` for what is no id."""
    try:
        found = tuple(int(part) for part in parts(text))
    except ValueError:
        found = (0,)
    if any(not 0 < number < 2**63 for number in found):
        raise Misuse(f"--job-ids takes ids, such as 17,18; this is {text!r}.")
    return found


def login() -> str:
    """Return who is logged in; a container's user may have no name, and is shown by number."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
