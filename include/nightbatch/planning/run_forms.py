"""Check what a run is asked for: what cannot be meant is refused in words, before anything is claimed.

A name that is not known must not be left out: a misspelt ``dry_run`` would send the whole night.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.ledger import RunParams
from nightbatch.job_types import broken_job_types
from nightbatch.postgres import plans
from nightbatch.postgres.store import Store

_SHOWN = 10


def check_names(asked: Iterable[str], known: Collection[str]) -> None:
    """Raise `ConfigurationError` for names that are none of the ``known`` ones, and say which may be meant."""
    wrong = sorted(set(asked) - set(known))
    if wrong:
        takes = f"It takes {', '.join(known)}." if known else "It takes none."
        raise ConfigurationError(f"The run was given {_listed(wrong, known)}, which its Dag does not know. {takes}")


def check(store: Store, types: Collection[str], params: RunParams) -> None:
    """Raise `ConfigurationError` for job types and jobs that do not exist."""
    if wrong := [name for name in params.job_types if name not in types]:
        broken = f" Files that cannot be read: {', '.join(broken_job_types())}." if broken_job_types() else ""
        raise ConfigurationError(
            f"There is no job type {_listed(wrong, types)}; there are {', '.join(sorted(types))}.{broken}"
        )
    if absent := plans.absent_jobs(store, params.job_ids):
        more = f" and {len(absent) - _SHOWN:,} more" if len(absent) > _SHOWN else ""
        raise ConfigurationError(f"There is no job {', '.join(map(str, absent[:_SHOWN]))}{more}.")


def _listed(wrong: list[str], known: Collection[str]) -> str:
    return ", ".join(f"{name!r}{_meant(name, known)}" for name in wrong[:_SHOWN])


def _meant(name: str, known: Collection[str]) -> str:
    plain = {other.replace("_", ""): other for other in known}
    near = get_close_matches(name.lower().replace("_", "").replace("-", "").replace(" ", ""), plain, 1)
    return f" (is {plain[near[0]]!r} meant?)" if near else ""
