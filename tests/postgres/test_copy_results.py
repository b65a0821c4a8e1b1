"""Rows for ``result`` come through COPY as they were given, whatever their texts hold."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightbatch.postgres.store import Store, open_store

_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_COLUMNS = "output::text, finish_reason, input_tokens, realtime_cost_usd, price_source, error"


def written(store: Store, *rows: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """What the database makes of rows ``(output, finish_reason, tokens, cost, source, error)``."""
    store.connection.execute("TRUNCATE nightbatch.result")
    with store.transaction(), store.copy_results() as write:
        for number, (output, reason, tokens, cost, source, error) in enumerate(rows):
            write((number, 7, "failed", True, output, reason, tokens, 0, tokens, cost, cost, source, None, error))
    return store.connection.execute(f"SELECT {_COLUMNS} FROM nightbatch.result ORDER BY job_id").fetchall()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=_TEXTS, indent=st.sampled_from([None, 1, "\t"]), reason=_TEXTS, error=_TEXTS)
def test_any_text_comes_through(dsn: str, said: str, indent: Any, reason: str, error: str) -> None:
    output = json.dumps({"said": said}, ensure_ascii=False, indent=indent)
    cost = Decimal("0.000548550")
    with open_store(dsn) as store:
        rows = written(store, (output.encode(), reason, 2**31 - 1, cost, "a contract", error))
    assert rows == [(output, reason, 2**31 - 1, cost, "a contract", error)]


@pytest.mark.parametrize("word", ["", "None", "\\N", "\\.", "a\tb", "a\r\nb", "\\", "\\n"])
def test_a_word_that_means_something_to_copy_is_only_a_word(dsn: str, word: str) -> None:
    with open_store(dsn) as store:
        rows = written(store, (json.dumps(word).encode(), word, 1, Decimal(0), word, word))
    assert rows == [(json.dumps(word), word, 1, Decimal(0), word, word)]


def test_nothing_is_null_and_many_rows_go_in_order(dsn: str) -> None:
    empty = (None, None, None, None, None, None)
    long = (json.dumps("x" * 90_000).encode(), "stop", 5, Decimal("0E-12"), "source", None)
    with open_store(dsn) as store:
        rows = written(store, empty, long, long, empty)
    assert rows == [empty, (long[0].decode(), *long[1:]), (long[0].decode(), *long[1:]), empty]
