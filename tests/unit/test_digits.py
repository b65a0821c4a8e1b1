"""Numbers in paid answers keep their digits: ids of more than 64 bits, and decimals that no float holds."""

from __future__ import annotations

import orjson
import pytest

from nightbatch.core.models import Answer
from nightbatch.job_types import job_types


def answered(kind: str, digits: str) -> str:
    schema = {"type": "object", "properties": {"n": {"type": kind}}, "required": ["n"]}
    answer = Answer("succeeded", f'{{"n":{digits}}}')
    return job_types()["bulk_predictions"].read_answer(answer, orjson.dumps(schema)).json.decode()


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    "digits",
    ["9007199254740993", "18446744073709551615", "18446744073709551616", "340282366920938463463374607431768211455"],
)
def test_a_long_whole_number_comes_out_as_it_came(digits: str) -> None:
    assert answered("integer", digits) == f'{{"n":{digits}}}'


@pytest.mark.fault(68)
@pytest.mark.parametrize("digits", ["0.10", "1234567890123456.78", "3.14159265358979323846264338327950288"])
def test_a_decimal_comes_out_as_it_came(digits: str) -> None:
    assert answered("number", digits) == f'{{"n":{digits}}}'
