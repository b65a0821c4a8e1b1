"""A night that a provider's queue had no room for goes on in another run."""

from __future__ import annotations

import pytest

from nightbatch.airflow.waves import wave_after


@pytest.mark.parametrize(
    ("run_id", "after"),
    [
        ("scheduled__2026-11-23T02:00:00+00:00", "wave2_of_scheduled__2026-11-23T02:00:00+00:00"),
        ("wave2_of_manual__x", "wave3_of_manual__x"),
        ("wave9_of_x", "wave10_of_x"),
    ],
)
def test_waves_are_numbered(run_id: str, after: str) -> None:
    assert wave_after(run_id) == after
