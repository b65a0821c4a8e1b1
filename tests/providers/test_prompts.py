"""What a prompt says stands in the request, in each provider's own words; what a model cannot do is refused in words."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from nightbatch.core.errors import Rejected
from nightbatch.core.models import (
    EmbeddingInput,
    Endpoint,
    Media,
    Prompt,
    ProviderName,
    RawRequest,
    Request,
    Tool,
    Turn,
)
from nightbatch.job_types import job_types
from nightbatch.providers import build

Json = dict[str, Any]
MODELS: dict[ProviderName, str] = {
    "openai": "gpt-6-luna",
    "anthropic": "claude-haiku-5-5",
    "gemini": "gemini-3.5-flash-lite",
}
TICKET = Tool(
    "file_ticket",
    {"type": "object", "properties": {"severity": {"type": "string"}}, "required": ["severity"]},
    "Files a ticket.",
)


def body(provider: ProviderName, request: Request, model: str | None = None, endpoint: Endpoint | None = None) -> Json:
    adapter = build(provider, api_key="k", base_url="http://127.0.0.1:9")
    at: Endpoint = endpoint or ("responses" if provider == "openai" else "chat")
    line = orjson.loads(adapter.render("j1_a1", model or MODELS[provider], at, request))
    found: Json = line.get("body") or line.get("params") or line["request"]
    return found


def limit(provider: ProviderName, made: Json) -> int:
    place = {"openai": made, "anthropic": made, "gemini": made.get("generationConfig", {})}[provider]
    name = {"openai": "max_output_tokens", "anthropic": "max_tokens", "gemini": "maxOutputTokens"}[provider]
    found: int = place[name]
    return found


@pytest.mark.parametrize(
    ("provider", "model", "effort", "said"),
    [
        ("openai", "gpt-6-sol", "light", {"effort": "low"}),
        ("openai", "gpt-6-sol", "max", {"effort": "xhigh"}),
        ("openai", "gpt-6-sol", "none", {"effort": "none"}),
        ("openai", "gpt-5-mini", "minimal", {"effort": "minimal"}),
        ("openai", "gpt-5.4", "minimal", {"effort": "low"}),
        ("openai", "o4-mini", "max", {"effort": "high"}),
        ("openai", "gpt-5-pro", "light", {"effort": "high"}),
        ("openai", "gpt-5.4-pro", "low", {"effort": "medium"}),
        ("openai", "gpt-4.1-mini", "light", None),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::x", "none", None),
        ("openai", "my-deployment", "high", {"effort": "high"}),
        ("openai", "my-deployment", "light", None),
        ("anthropic", "claude-haiku-5-5", "light", (None, None)),
        ("anthropic", "claude-haiku-5-5", "minimal", ({"type": "adaptive"}, "low")),
        ("anthropic", "claude-sonnet-5-5", "max", ({"type": "adaptive"}, "max")),
        ("anthropic", "claude-sonnet-5-5", "none", ({"type": "disabled"}, None)),
        ("anthropic", "claude-haiku-4-5-20251001", "low", ({"type": "enabled", "budget_tokens": 2048}, None)),
        ("anthropic", "claude-haiku-4-5", "light", (None, None)),
        ("gemini", "gemini-3.5-flash-lite", "light", {"thinkingLevel": "LOW"}),
        ("gemini", "gemini-3.5-flash-lite", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini", "gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini", "models/gemini-3.7-flash", "max", {"thinkingLevel": "HIGH"}),
        ("gemini", "gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini", "gemini-2.5-flash-lite", "light", None),
        ("gemini", "gemini-2.5-pro", "high", {"thinkingBudget": 16384}),
    ],
)
def test_an_effort_is_said_as_the_model_takes_it(provider: ProviderName, model: str, effort: Any, said: Any) -> None:
    made = body(provider, Prompt(user="x", effort=effort), model)
    if provider == "openai":
        assert made.get("reasoning") == said
    elif provider == "anthropic":
        assert (made.get("thinking"), made.get("output_config", {}).get("effort")) == said
    else:
        assert made["generationConfig"].get("thinkingConfig") == said


@pytest.mark.parametrize(
    ("provider", "model", "effort", "why"),
    [
        ("openai", "gpt-4.1", "high", "gpt-4.1 does not think"),
        ("openai", "o3", "none", "always thinks"),
        ("openai", "gpt-5", "none", "always thinks"),
        ("anthropic", "claude-3-5-haiku-latest", "low", "does not think"),
        ("anthropic", "claude-fable-5-2", "none", "always thinks"),
        ("gemini", "gemini-2.5-pro", "none", "always thinks"),
        ("gemini", "gemini-3.7-flash", "none", "always thinks"),
        ("gemini", "gemma-3", "low", "does not think"),
    ],
)
def test_an_effort_that_a_model_does_not_have_is_refused(
    provider: ProviderName, model: str, effort: Any, why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        body(provider, Prompt(user="x", effort=effort), model)


@pytest.mark.parametrize("provider", MODELS)
def test_thoughts_have_room_of_their_own_beside_the_answer(provider: ProviderName) -> None:
    room = [limit(provider, body(provider, Prompt(user="x", max_tokens=500, effort=one))) for one in ("light", "high")]
    assert room == [500 + 8_192, 500 + 32_768]
    assert limit(provider, body(provider, Prompt(user="x", max_tokens=500, thinking_tokens=3_000))) == 3_500


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-4o-mini"), ("anthropic", "claude-3-haiku"), ("gemini", "gemini-2.0-flash"), ("openai", "mine")],
)
def test_a_model_that_does_not_think_gets_the_answer_s_limit_only(provider: ProviderName, model: str) -> None:
    assert limit(provider, body(provider, Prompt(user="x", max_tokens=500), model)) == 500


def test_a_budget_is_said_where_there_is_one() -> None:
    prompt = Prompt(user="x", max_tokens=500, thinking_tokens=4_000)
    made = body("anthropic", prompt, "claude-haiku-4-5")
    assert (made["thinking"]["budget_tokens"], made["max_tokens"]) == (4_000, 4_500)
    config = body("gemini", prompt, "gemini-2.5-flash")["generationConfig"]
    assert (config["thinkingConfig"], config["maxOutputTokens"]) == ({"thinkingBudget": 4_000}, 4_500)


@pytest.mark.parametrize("kind", ["creative_scoring", "hook_generation", "bulk_predictions"])
def test_the_built_in_types_say_an_effort_and_take_one_from_the_job(kind: str) -> None:
    made = job_types()[kind]
    light = made.render_request(orjson.dumps(made.example))
    assert body("openai", light, "gpt-6-sol")["reasoning"] == {"effort": "low"}
    asked = made.render_request(orjson.dumps(made.example | {"effort": "high", "max_tokens": 77}))
    assert (body("openai", asked)["reasoning"], limit("openai", body("openai", asked))) == (
        {"effort": "high"},
        77 + 32_768,
    )
    assert isinstance(light, Prompt) and isinstance(asked, Prompt) and light.user == asked.user


def test_turns_come_before_the_last_one() -> None:
    prompt = Prompt(user="and now?", turns=(Turn("user", "hello"), Turn("assistant", "hi")))
    said = [("user", "hello"), ("assistant", "hi"), ("user", "and now?")]
    assert [(m["role"], m["content"]) for m in body("openai", prompt)["input"]] == said
    assert [(m["role"], m["content"]) for m in body("openai", prompt, endpoint="chat")["messages"]] == said
    assert [(m["role"], m["content"]) for m in body("anthropic", prompt)["messages"]] == said
    contents = body("gemini", prompt)["contents"]
    assert [(c["role"], c["parts"][0]["text"]) for c in contents] == [("user", "hello"), ("model", "hi"), said[2]]


def test_a_forced_tool_is_declared_and_forced_everywhere() -> None:
    prompt = Prompt(user="It burns", tools=(TICKET,), tool="file_ticket")
    made = body("openai", prompt)
    assert (made["tools"][0]["name"], made["tools"][0]["strict"]) == ("file_ticket", True)
    assert made["tool_choice"] == {"type": "function", "name": "file_ticket"}
    made = body("openai", prompt, endpoint="chat")
    assert made["tool_choice"] == {"type": "function", "function": {"name": "file_ticket"}}
    made = body("anthropic", prompt)
    assert made["tool_choice"] == {"type": "tool", "name": "file_ticket"} and made["tools"][0]["input_schema"]
    made = body("gemini", prompt)
    assert made["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["file_ticket"]}
    assert body("openai", Prompt(user="x", tools=(TICKET,), tool="required"))["tool_choice"] == "required"
    assert "tool_choice" not in body("openai", Prompt(user="x", tools=(TICKET,)))


def test_anthropic_is_not_told_to_think_and_to_call_at_once() -> None:
    with pytest.raises(Rejected, match="leave tool or effort out"):
        body("anthropic", Prompt(user="x", tools=(TICKET,), tool="file_ticket", effort="high"))


def test_a_temperature_goes_where_one_is_taken() -> None:
    prompt = Prompt(user="x", temperature=0.2)
    assert body("openai", prompt, "gpt-4.1-mini")["temperature"] == 0.2
    assert body("gemini", prompt)["generationConfig"]["temperature"] == 0.2
    with pytest.raises(Rejected, match="takes no temperature"):
        body("anthropic", prompt)


def test_a_long_system_prompt_and_a_shared_text_are_marked_for_the_cache() -> None:
    mark = {"type": "ephemeral"}
    assert body("anthropic", Prompt(user="x", system="S" * 20_000))["system"][0]["cache_control"] == mark
    assert body("anthropic", Prompt(user="x", system="short"))["system"] == "short"
    assert body("anthropic", Prompt(user="x", system="S" * 20_000, cache="off"))["system"] == "S" * 20_000
    made = body("anthropic", Prompt(user="x", system="short", shared="the rules", cache="1h"))
    parts = made["messages"][0]["content"]
    assert [part["text"] for part in parts] == ["the rules", "x"]
    assert (parts[0]["cache_control"], made["system"]) == ({"type": "ephemeral", "ttl": "1h"}, "short")
    first = body("openai", Prompt(user="x", shared="the rules"))["input"][0]["content"][0]
    assert first == {"type": "input_text", "text": "the rules", "prompt_cache_breakpoint": {"mode": "explicit"}}
    old = body("openai", Prompt(user="x", shared="the rules"), "gpt-4.1")["input"][0]["content"][0]
    assert old == {"type": "input_text", "text": "the rules"}
    assert body("openai", Prompt(user="x", cache="off"))["prompt_cache_options"] == {"mode": "explicit"}


def test_the_provider_s_own_words_are_merged_into_the_body() -> None:
    options: dict[ProviderName, Json] = {
        "openai": {"store": True, "text": {"verbosity": "low"}, "service_tier": "default"},
        "anthropic": {"output_config": {"effort": "low"}, "metadata": {"user_id": "u1"}},
        "gemini": {"generationConfig": {"seed": 7}, "safetySettings": []},
    }
    prompt = Prompt(user="x", schema=job_types()["creative_scoring"].schema, provider_options=options)
    made = body("openai", prompt)
    assert (made["store"], made["text"]["verbosity"], made["service_tier"]) == (True, "low", "default")
    assert made["text"]["format"]["strict"]
    made = body("anthropic", prompt)
    assert (made["output_config"]["effort"], made["metadata"]) == ("low", {"user_id": "u1"})
    assert made["output_config"]["format"]["type"] == "json_schema"
    made = body("gemini", prompt)
    assert (made["generationConfig"]["seed"], made["safetySettings"]) == (7, [])
    assert options["openai"]["text"] == {"verbosity": "low"}
    with pytest.raises(Rejected, match="asks for the model gpt-6-sol"):
        body("openai", Prompt(user="x", provider_options={"openai": {"model": "gpt-6-sol"}}))


def test_openai_keeps_no_response_unless_it_is_asked_to() -> None:
    assert body("openai", Prompt(user="x"))["store"] is False


@pytest.mark.parametrize(
    ("provider", "ready"),
    [
        ("openai", {"model": "gpt-6-sol", "input": "x"}),
        ("anthropic", {"model": "claude-sonnet-5-5", "messages": []}),
        ("gemini", {"model": "models/gemini-3.7-flash", "contents": []}),
    ],
)
def test_a_ready_body_that_names_another_model_is_refused(provider: ProviderName, ready: Json) -> None:
    with pytest.raises(Rejected, match="which one is meant"):
        body(provider, RawRequest(ready))
    own = ready | {"model": MODELS[provider]}
    assert body(provider, RawRequest(own)).get("model") in (MODELS[provider], None)


def test_a_model_among_the_provider_s_own_words_is_not_passed_over_in_silence() -> None:
    with pytest.raises(Rejected, match="which one is meant"):
        body("gemini", Prompt(user="x", provider_options={"gemini": {"model": "gemini-3.7-flash"}}))


@pytest.mark.parametrize("provider", MODELS)
def test_a_url_that_is_not_heeded_is_refused(provider: ProviderName) -> None:
    with pytest.raises(Rejected, match="url: "):
        body(provider, RawRequest({"messages": []}, "/v1/completions"))


def test_a_task_type_reaches_gemini_and_openai_refuses_it() -> None:
    asked = EmbeddingInput(("q",), task_type="RETRIEVAL_DOCUMENT", title="t")
    made = body("gemini", asked, "gemini-embedding-001", "embeddings")
    assert (made["taskType"], made["title"]) == ("RETRIEVAL_DOCUMENT", "t")
    with pytest.raises(Rejected, match="no task_type"):
        body("openai", asked, "text-embedding-3-small", "embeddings")


def test_texts_that_openai_would_refuse_are_refused_with_count_and_limit() -> None:
    with pytest.raises(Rejected, match=r"text 1 has 12,00. tokens; OpenAI takes 8,192"):
        body("openai", EmbeddingInput(("short", "word " * 12_000)), "text-embedding-3-small", "embeddings")
    with pytest.raises(Rejected, match=r"400,\d+ tokens together; OpenAI takes 300,000"):
        body("openai", EmbeddingInput(("word " * 1_000,) * 400), "text-embedding-3-small", "embeddings")
    assert body("openai", EmbeddingInput(("word " * 4_000,)), "text-embedding-3-small", "embeddings")


@pytest.mark.parametrize(
    ("provider", "endpoint", "kind", "part"),
    [
        ("openai", "responses", "application/pdf", {"type": "input_file"}),
        ("openai", "chat", "application/pdf", {"type": "file"}),
        ("openai", "responses", "audio/mpeg", {"type": "input_audio"}),
        ("anthropic", "chat", "application/pdf", {"type": "document"}),
        ("gemini", "chat", "application/pdf", {}),
        ("gemini", "chat", "audio/wav", {}),
    ],
)
def test_documents_and_sounds_stand_in_the_request(
    tmp_path: Path, provider: ProviderName, endpoint: Endpoint, kind: str, part: Json
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    prompt = Prompt(user="What is it?", media=(Media(path=str(path), mime_type=kind),))
    made = body(provider, prompt, endpoint=endpoint)
    assert base64.b64encode(b"content") in orjson.dumps(made)
    turns = made.get("input") or made.get("messages") or made["contents"]
    first = (turns[-1].get("content") or turns[-1]["parts"])[0]
    assert part.items() <= first.items()
