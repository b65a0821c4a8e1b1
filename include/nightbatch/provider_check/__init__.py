"""Run `nightbatch doctor --live`: tiny batches with a person's own keys, for what no document of a provider settles.

It knows neither the ledger nor Airflow. Its batches carry tags and custom_ids that no attempt of nightbatch has, so recovery
never takes an OpenAI or Gemini batch of this for its own. Anthropic's list shows neither: a batch of two requests that is
sent while another create of two is in doubt can be adopted, until its custom_ids show at the load that it is not the one.
"""

from __future__ import annotations

from nightbatch.provider_check.desk import Desk, Session
from nightbatch.provider_check.record import Finding, ProviderRecord, Record
from nightbatch.provider_check.sending import Offer, offer, send
from nightbatch.provider_check.watching import look_again, watch

__all__ = [
    "Desk", "Finding", "Offer", "ProviderRecord", "Record", "Session", "look_again", "offer", "send", "watch",
]  # fmt: skip
