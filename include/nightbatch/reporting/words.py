"""The words that stand in every report, whatever its format."""

from __future__ import annotations

from collections.abc import Iterable

from nightbatch.reporting.stats import Price

ASSUMPTIONS = (
    "Prices are those of the moment at which a batch was sent: from nightbatch.price_override where it has a row, else from"
    " genai-prices. The section on prices names the source and its version; the unit prices stay with every result.",
    "The realtime cost is what the same usage would have cost through the realtime API at that moment; the batch cost is what"
    " it did cost; cached tokens count as the provider bills them.",
    "Saved is the realtime cost less the batch cost less the waste: what was paid for and cannot be used, such as an answer that"
    " does not fit or a duplicate. A duplicate's own realtime cost is 0, so that it saves nothing.",
    "Unpriced usage, whose price or size is not known, is counted, and is in no sum of money.",
    "Jobs answered from the cache cost nothing, and count as saved in full: the realtime cost of the answer that they share.",
    "Jobs sent through the realtime API before their deadline (the fallback) cost the full price and save nothing.",
)
OF_DAYS = (
    "Days are those of UTC, and a batch belongs to the day on which it was sent, whenever it came back.",
    "A job counts once for each of its labels, so labels do not add up to the whole; the hundred that saved the most are"
    " shown. A label with very many values names jobs instead of kinds, and is left out.",
    "Turnaround is from the submission of a batch to its end, over batches, whatever their size.",
)


def sources(prices: Iterable[Price]) -> list[str]:
    """Return where prices came from, each once, without the unit prices."""
    return list(dict.fromkeys(price.source.split(";")[0] for price in prices if price.source))
