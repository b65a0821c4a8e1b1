"""Small things that the Dags' tasks need of Airflow, so that each task stays one sentence."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk import Asset, Param, conf
from airflow.sdk.exceptions import ParamValidationError

from nightbatch.core.days import span
from nightbatch.core.errors import ConfigurationError
from nightbatch.core.ledger import RunParams
from nightbatch.core.profiles import profiles
from nightbatch.core.settings import Settings

if TYPE_CHECKING:
    from nightbatch.core.ledger import Batch
    from nightbatch.planning.reprocessing import ReprocessRequest
    from nightbatch.postgres.store import Store
    from nightbatch.reporting import AnyReport

log = logging.getLogger("nightbatch")

_GAUGES = (
    "jobs", "succeeded", "failed", "requeued", "rejected", "unpriced", "paid_again", "from_cache",
    "realtime_cost_usd", "batch_cost_usd", "wasted_cost_usd", "savings_usd",
)  # fmt: skip

_AIRFLOWS = {"openlineage"}
"""What Airflow's own operators put into the conf of a run that they start."""

RESULTS = Asset("nightbatch://results")
"""Updated once a night, after the report: schedule a Dag on it to follow."""


def run_form(job_types: list[str]) -> dict[str, Param]:
    """Return what a person may ask for in the trigger form; left alone, a run takes everything that is due."""
    return {
        "providers": Param(
            list(profiles()),
            type="array",
            title="Providers",
            description="Whose jobs to send. The others stay queued.",
            items={"type": "string", "enum": list(profiles())},
            examples=list(profiles()),
        ),
        "job_types": Param(
            [],
            type="array",
            title="Job types",
            description="Which job types to send. Empty sends all of them.",
            items={"type": "string"},
            examples=job_types,
        ),
        "job_ids": Param(
            [],
            type="array",
            title="Jobs",
            description="Which jobs to send, by their ids. Empty sends all that are due.",
            items={"type": "integer", "minimum": 1},
        ),
        "max_jobs": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="At most",
            description="How many jobs to send, the highest priority first. Empty sends all that are due.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Only say, in the log of `plan`, what would be sent. No job is taken, no provider is called.",
        ),
    }


def this_wave(store: Store, batches: Sequence[Batch]) -> dict[str, list[int]]:
    """Return the ids of the batches that this run sends, by provider: as many as Airflow maps.

    A longer list would fail the task that hands it on (``core.max_map_length``). The rest goes in the next wave.
    """
    from nightbatch.postgres import plans

    most = conf.getint("core", "max_map_length", fallback=1024)
    ids = {name: [batch.id for batch in batches if batch.provider == name] for name in profiles()}
    later = [batch_id for found in ids.values() for batch_id in found[most:]]
    if later:
        log.info(
            "%s batches are more than Airflow maps at once (core.max_map_length=%s): the next wave sends them.",
            len(later),
            most,
        )
        plans.leave_to_next_wave(store, later)
    return {name: found[:most] for name, found in ids.items()}


def run_params(params: Mapping[str, Any], dag_run: Any = None) -> RunParams:
    """Return the trigger form as a value. Raises `ConfigurationError` as `heed` does."""
    heed(run_form([]), params, dag_run)
    return RunParams(
        providers=tuple(params["providers"]),
        job_types=tuple(params["job_types"]),
        job_ids=tuple(int(number) for number in params["job_ids"]),
        max_jobs=params["max_jobs"] and int(params["max_jobs"]),
        dry_run=params["dry_run"],
    )


def heed(form: Mapping[str, Param], params: Mapping[str, Any], dag_run: Any) -> None:
    """Raise `ConfigurationError` for what a run was given that its Dag would not heed, or that cannot be meant.

    Airflow checks the values of names that it knows, and keeps all others among the params.
    """
    from nightbatch.planning import run_forms

    conf: Mapping[str, Any] = getattr(dag_run, "conf", None) or {}
    run_forms.check_names({*params, *conf} - _AIRFLOWS, form.keys())
    if unheard := [name for name in conf if name in form and params.get(name) != conf[name]]:
        raise ConfigurationError(
            f"The run was given {', '.join(unheard)}, and Airflow does not hand that on to its tasks: set"
            " core.dag_run_conf_overrides_params to True."
        )
    for name in form.keys() & params.keys():
        try:
            form[name].resolve(params[name])
        except ParamValidationError as error:
            raise ConfigurationError(f"The run's {name} does not fit: {str(error).splitlines()[0]}.") from None


def refusal(store: Store, run_id: str, params: Mapping[str, Any], dag_run: Any) -> str | None:
    """Return why a run was refused before it claimed anything; None for all others."""
    from nightbatch.job_types import job_types
    from nightbatch.planning import run_forms

    if store.run_batches(run_id):
        return None
    try:
        run_forms.check(store, job_types(), run_params(params, dag_run))
    except ConfigurationError as error:
        return str(error)
    return None


def reprocessing_form(job_types: list[str]) -> dict[str, Param]:
    """Return what a person may ask for when past jobs are to be sent again."""

    def text(title: str, description: str, **more: Any) -> Param:
        return Param(None, type=["null", "string"], title=title, description=description, **more)

    return {
        "to_model": text("To model", "Ask this model. Empty keeps the model, or takes the new provider's default."),
        "to_provider": Param(
            None,
            type=["null", "string"],
            enum=[None, *profiles()],
            values_display={"null": "the one that answered"},
            title="To provider",
            description="Ask this provider.",
        ),
        "prompt_version": text("Prompt version", "Ask with this version of the prompt. Empty takes the newest."),
        "job_types": Param(
            [],
            type="array",
            title="Job types",
            description="Which job types to send again. Empty sends all that can be asked again.",
            items={"type": "string"},
            examples=job_types,
        ),
        "from_model": text("From model", "Only what this model answered."),
        "max_jobs": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="At most",
            description="How many jobs of a day to send again, the highest priority first.",
        ),
        "from_day": text("First day", "By when results were loaded. Empty: the run's own day.", format="date"),
        "to_day": text("Last day", "Inclusive. Empty: the first day alone.", format="date"),
        "dry_run": Param(
            False, type="boolean", title="Dry run", description="Only say, in the log of `choose`, what it would cost."
        ),
    }


def reprocessing_wish(dag_run: Any, params: Mapping[str, Any], settings: Settings) -> ReprocessRequest:
    """Return the form as a value; the days are those of the schedule's time zone.

    Raises `ConfigurationError` for an empty one, and as `heed`.
    """
    from nightbatch.planning.reprocessing import ReprocessRequest

    heed(reprocessing_form([]), params, dag_run)
    if params["to_day"] and not params["from_day"]:
        raise ConfigurationError("There is a last day, to_day, and no first one: give from_day too.")
    if not (params["to_model"] or params["to_provider"] or params["prompt_version"]):
        raise ConfigurationError(
            "Say what is to change: the model, the provider or the prompt version. For a backfill from the UI, tick"
            " 'Override parameters on existing runs' too: Airflow leaves its parameters out otherwise."
        )
    since, until = dag_run.data_interval_start, dag_run.data_interval_end
    if params["from_day"]:
        first, last = (date.fromisoformat(params[name] or params["from_day"]) for name in ("from_day", "to_day"))
        since, until = span(first, last, ZoneInfo(settings.timezone))
    if since is None or until is None:
        raise ConfigurationError("Say which days: the run has none of its own.")
    changes = ("to_model", "to_provider", "prompt_version", "from_model", "max_jobs")
    return ReprocessRequest(
        since=since,
        until=until,
        job_types=tuple(params["job_types"]),
        **{name: params[name] or None for name in changes},
    )


def queued_before(dag_run: Any) -> datetime | None:
    """Return the end of a scheduled or backfilled run's data interval; None for all others, which take whatever is due.

    It does not go by the interval alone: a run that a person starts from the UI may have one too, and still means "now".
    """
    end: datetime | None = dag_run.data_interval_end if dag_run.run_type in ("scheduled", "backfill") else None
    return end


def keep_report(folder: str, run_id: str, report: AnyReport) -> None:
    """Write the report as ``<run id>.md``, .json, .csv and .html; an empty ``folder`` keeps none.

    A folder that cannot be written to is logged and no more: the figures stand in the database and in the log, and the Dags
    that follow need not wait for a disk.
    """
    from nightbatch import reporting

    if not folder:
        return
    try:
        reporting.keep(Path(folder), run_id, report)
    except OSError as error:
        log.error("The report is in no file: %s. Make room or mend NIGHTBATCH_REPORT_DIR, and clear this task.", error)


def counts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report's totals, for the asset event: what stands below them may be long."""
    return {name: value for name, value in values.items() if not isinstance(value, (dict, list))}


def tell_metrics(values: Mapping[str, Any]) -> None:
    """Send the report's totals as gauges ``nightbatch.<name>`` to Airflow's own metrics: OpenTelemetry or StatsD, if any."""
    from airflow.sdk.observability import stats

    for name in _GAUGES:
        stats.gauge(f"nightbatch.{name}", float(values[name]))


def failed_tasks(task_instance: Any) -> list[str]:
    """Return a sentence for each task of this run that failed, however many of its batches did."""
    run_id = task_instance.run_id
    states = task_instance.get_task_states(dag_id=task_instance.dag_id, run_ids=[run_id]).get(run_id, {})
    failed = Counter(_task_id(key) for key, state in states.items() if state == "failed")
    return [f"{task_id} failed" + (f" for {count} batches." if count > 1 else ".") for task_id, count in failed.items()]


def _task_id(key: str) -> str:
    """Return a task's id without the index: Airflow tells a mapped task's states as ``openai.load_0`` and so on."""
    name, _, index = key.rpartition("_")
    return name if name and index.isdigit() else key
