"""The figures that a monitoring system watches, in Prometheus' own format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from nightbatch.reporting.stats import Metrics


def exposition(found: Metrics, accept: str) -> tuple[bytes, str]:
    """Return the text, in the version that the client asks for, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(found))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collected(Collector):
    def __init__(self, found: Metrics) -> None:
        self.found = found

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as the library asks. Names and units follow https://prometheus.io/docs/practices/naming/."""
        yield from self._money()
        yield from self._jobs()
        yield from self._now()

    def _money(self) -> Iterator[Metric]:
        for name, field, what in (
            ("nightbatch_saved_usd", "savings_usd", "Saved by batches, less the waste."),
            ("nightbatch_paid_usd", "batch_cost_usd", "Paid to the provider."),
            ("nightbatch_realtime_usd", "realtime_cost_usd", "What the same usage would have cost in realtime."),
            ("nightbatch_wasted_usd", "wasted_cost_usd", "Paid for answers that cannot be used."),
        ):
            # Savings may shrink by waste, so none of these is a counter to Prometheus.
            family = GaugeMetricFamily(name, what, labels=["provider"])
            for part in self.found.by_provider:
                family.add_metric([part.key], float(getattr(part.figures, field)))
            yield family

    def _jobs(self) -> Iterator[Metric]:
        family = CounterMetricFamily("nightbatch_jobs", "Jobs that came back.", labels=["provider", "outcome"])
        for part in self.found.by_provider:
            for outcome in ("succeeded", "failed", "requeued", "unpriced", "paid_again"):
                family.add_metric([part.key, outcome], getattr(part.figures, outcome))
        yield family

    def _now(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "nightbatch_queue_jobs", "Jobs that wait.", labels=["provider", "job_type", "priority"]
        )
        for row in self.found.queue:
            waiting.add_metric([row.provider, row.job_type, str(row.priority)], row.jobs)
        batches = GaugeMetricFamily("nightbatch_open_batches", "Attempts under way.", labels=["provider", "state"])
        for batch in self.found.open_batches:
            batches.add_metric([batch.provider, batch.state], batch.batches)
        alerts = GaugeMetricFamily("nightbatch_open_alerts", "Alerts that are not resolved.", labels=["kind"])
        for alert in self.found.open_alerts:
            alerts.add_metric([alert.kind], alert.alerts)
        yield from (waiting, batches, alerts)
        if self.found.last_run:
            planned = self.found.last_run.planned_at.timestamp()
            yield GaugeMetricFamily("nightbatch_last_run_timestamp_seconds", "When the last run was planned.", planned)
