from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightbatch import job_types
from nightbatch.core.errors import ConfigurationError, Rejected
from nightbatch.core.models import Answer, EmbeddingInput, Prompt
from nightbatch.job_types.base import OutputInvalid

SCORING = job_types.job_types()["creative_scoring"]
EMBEDDING = job_types.job_types()["embedding_generation"]
DIMENSION = {"score": 7, "reason": "It says what it is."}
SCORE = {
    **dict.fromkeys(("clarity", "relevance", "emotion", "originality", "call_to_action"), DIMENSION),
    "overall": 70,
    "verdict": "run",
}


@given(st.text(min_size=1).filter(lambda text: text.isprintable()), st.text())
def test_every_text_reaches_the_prompt_as_it_came(headline: str, body: str) -> None:
    job = json.dumps({"headline": headline, "body": body}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    request = SCORING.render_request(job)
    assert isinstance(request, Prompt)
    assert headline in request.user
    assert body in request.user


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_reason(raw: bytes) -> None:
    try:
        SCORING.render_request(raw)
    except Rejected as rejected:
        assert len(str(rejected)) < 300


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{}", "headline: Field required"),
        (b'{"headline": ""}', "headline: String should have at least 1 character"),
        (b'{"headline": 1e400}', "headline: Input should be a valid string"),
        (b'{"headline": "\\ud800"}', "input: Invalid JSON"),
        (b"[]", "input: Input should be an object"),
        (b"", "input: Invalid JSON"),
    ],
)
def test_a_bad_input_is_rejected_with_the_field(raw: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        SCORING.render_request(raw)
    assert str(caught.value).startswith(reason)


def test_a_reason_never_quotes_the_input() -> None:
    with pytest.raises(Rejected) as caught:
        SCORING.render_request(b'{"headline": ["canary-7781"], "body": 3}')
    assert "canary" not in str(caught.value)


def test_an_answer_that_fits_is_kept_compact() -> None:
    output = SCORING.read_answer(Answer("succeeded", text=json.dumps(SCORE, indent=2)))
    assert output.json == json.dumps(SCORE, separators=(",", ":")).encode()
    assert output.vectors == ()


@pytest.mark.parametrize("text", [None, "", "Certainly! Here is", json.dumps(SCORE | {"overall": 101}), "{}", "[1]"])
def test_an_answer_that_does_not_fit_says_where(text: str | None) -> None:
    with pytest.raises(OutputInvalid, match="the answer does not fit"):
        SCORING.read_answer(Answer("succeeded", text=text))


def test_the_schema_allows_nothing_but_what_it_names() -> None:
    def objects(node: object) -> list[dict[str, object]]:
        if isinstance(node, dict):
            return [node] * (node.get("type") == "object") + [
                found for value in node.values() for found in objects(value)
            ]
        return [found for value in node for found in objects(value)] if isinstance(node, list) else []

    found = objects(SCORING.schema)
    assert len(found) == 2
    for node in found:
        assert node["additionalProperties"] is False
        assert sorted(node["required"]) == sorted(node["properties"])  # type: ignore[call-overload]


def test_an_embedding_job_holds_one_text_or_a_list() -> None:
    assert EMBEDDING.render_request(b'{"text": "a"}') == EmbeddingInput(("a",))
    assert EMBEDDING.render_request(b'{"texts": ["a", "b"], "dimensions": 8}') == EmbeddingInput(("a", "b"), 8)
    for raw in (b"{}", b'{"text": "a", "texts": ["b"]}', b'{"texts": []}', b'{"text": ""}'):
        with pytest.raises(Rejected):
            EMBEDDING.render_request(raw)


def test_vectors_are_checked() -> None:
    output = EMBEDDING.read_answer(Answer("succeeded", embeddings=((1.0, 0.5), (0.0, 1.0))))
    assert output.json == b'{"count":2,"dimensions":2}'
    assert output.vectors == ((1.0, 0.5), (0.0, 1.0))
    for vectors in ((), ((),), ((1.0,), (1.0, 2.0)), ((float("nan"),),), ((float("inf"), 1.0),)):
        with pytest.raises(OutputInvalid):
            EMBEDDING.read_answer(Answer("succeeded", embeddings=vectors))


OWN = """
from typing import ClassVar
from pydantic import BaseModel
from nightbatch.job_types.base import JobType
from nightbatch.core.models import Prompt

class Haiku(JobType):
    name = "haiku"
    models: ClassVar = {"openai": "gpt-6-luna"}
    example: ClassVar = {"topic": "rain"}

    class Input(BaseModel):
        topic: str

    class Output(BaseModel):
        lines: list[str]

    def request(self, job: Input) -> Prompt:
        return Prompt(user=f"A haiku about {job.topic}", schema=self.schema)
"""


def test_a_file_in_the_teams_folder_adds_a_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "haiku.py").write_text(OWN)
    monkeypatch.setenv("NIGHTBATCH_JOB_TYPES", str(tmp_path))
    assert job_types.job_types()["haiku"].render_request(b'{"topic": "snow"}') == Prompt(
        user="A haiku about snow", schema=job_types.job_types()["haiku"].schema
    )


def test_a_teams_plain_input_keeps_its_own_way_and_one_made_of_ours_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "haiku.py").write_text(OWN)
    ours = OWN.replace('"haiku"', '"strict_haiku"').replace("Input(BaseModel)", "Input(JobInput)")
    (tmp_path / "strict_haiku.py").write_text(ours.replace("import JobType", "import JobInput, JobType"))
    monkeypatch.setenv("NIGHTBATCH_JOB_TYPES", str(tmp_path))
    assert job_types.job_types()["haiku"].render_request(b'{"topic": "snow", "tpic": "rain"}')
    with pytest.raises(Rejected, match="tpic: there is no such member; topic was probably meant"):
        job_types.job_types()["strict_haiku"].render_request(b'{"topic": "snow", "tpic": "rain"}')


def test_a_broken_file_is_named_and_stops_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module")
    (tmp_path / "haiku.py").write_text(OWN)
    (tmp_path / "same.py").write_text(OWN)
    monkeypatch.setenv("NIGHTBATCH_JOB_TYPES", str(tmp_path))
    assert "haiku" in job_types.job_types()
    assert "creative_scoring" in job_types.job_types()
    broken = job_types.broken_job_types()
    assert "no_such_module" in broken[str(tmp_path / "broken.py")]
    assert ConfigurationError.__name__ in broken[str(tmp_path / "same.py")]
    assert "haiku" in broken[str(tmp_path / "same.py")]


def test_the_type_in_the_readme_works_as_it_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 30
    (tmp_path / "ticket_tagging.py").write_text(code)
    monkeypatch.setenv("NIGHTBATCH_JOB_TYPES", str(tmp_path))
    assert not job_types.broken_job_types()
    kind = job_types.job_types()["ticket_tagging"]
    request = kind.render_request(json.dumps(kind.example).encode())
    assert isinstance(request, Prompt)
    assert "Cannot log in" in request.user
    assert kind.read_answer(Answer("succeeded", text='{"tag": "login", "urgent": true}')).json
