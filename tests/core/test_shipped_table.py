"""The shipped table: what every client can rely on, whatever else it grows to."""

from __future__ import annotations

import re

import pytest

from proxy.core.errors import Credentials, Origin, UpstreamError
from proxy.core.failures import Failure
from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.core.surfaces import SURFACES
from proxy.core.table import Context, ReplySpec, Resolution, Rule
from proxy.core.table_check import check
from tests.playbook import shipped

TABLE = shipped()
REPLIES = sorted(TABLE.replies)

PROMISED = (
    *("context_length_exceeded", "insufficient_quota", "usage_limit_reached", "model_not_found"),
    *("server_is_overloaded", "invalid_request", "invalid_api_key", "permission_denied"),
    *("not_found", "request_too_large", "content_policy_violation", "upstream_timeout"),
    "upstream_unavailable",
)


def resolve(error: UpstreamError, credentials: Credentials = "client") -> Resolution:
    return TABLE.resolve(error, Context("responses", credentials, "ref0"))


def reply(name: str) -> ReplySpec:
    return TABLE.replies[name]


def test_it_is_proved() -> None:
    assert check(TABLE) == []


def test_its_default_is_server_error() -> None:
    assert TABLE.default == "server_error"
    assert TABLE.vocabulary == "spec"


@pytest.mark.parametrize("name", [*RESPONSE_ERROR_CODES, *PROMISED])
def test_a_promised_code_is_declared(name: str) -> None:
    assert name in REPLIES


@pytest.mark.parametrize("name", RESPONSE_ERROR_CODES)
def test_a_code_of_the_enum_stands_for_itself(name: str) -> None:
    error = UpstreamError(origin=Origin.STREAM, code=name, status=418)
    if name != "server_error":  # some gateways put the word on every error
        assert resolve(error).reply.code == name
    assert reply(name).responses_code == name


@pytest.mark.parametrize("failure", Failure)
def test_a_rule_maps_every_failure_of_the_proxys_own(failure: Failure) -> None:
    resolution = resolve(UpstreamError(origin=Origin.PROXY, failure=failure))
    assert resolution.rule is not None
    assert failure in resolution.rule.when.failure


@pytest.mark.parametrize("failure", Failure)
def test_a_failure_has_a_name_and_a_meaning_for_people(failure: Failure) -> None:
    assert re.fullmatch(r"[a-z_]+", failure)
    assert re.fullmatch(r"[^.]+", failure.meaning)


@pytest.mark.parametrize("name", REPLIES)
class TestEveryReply:
    def test_is_retryable_or_final_in_the_enum_too(self, name: str) -> None:
        # Clients retry server_error and rate_limit_exceeded, and give up on invalid_prompt.
        one = reply(name)
        retried = one.responses_code in (
            "server_error",
            "rate_limit_exceeded",
            "vector_store_timeout",
        )
        assert retried is one.retryable

    def test_has_a_status_that_sdks_treat_as_it_says(self, name: str) -> None:
        # SDKs retry 408, 409, 429 and 5xx, unless `x-should-retry: false` tells them not to.
        one = reply(name)
        if one.retryable:
            assert one.status in (408, 409, 429) or one.status >= 500

    def test_ends_each_sentence_with_a_full_stop(self, name: str) -> None:
        for sentence in reply(name).messages:
            assert sentence.text.endswith(".")
            assert sentence.text[0].isupper()
            assert "  " not in sentence.text

    def test_says_what_to_do(self, name: str) -> None:
        if name in ("tool_failed", "moderation_failed"):
            return  # a part of an answer, which the model itself deals with
        advice = (
            "try again|check|change|send|save|shorten|encode|make it|compress|upload|wait|use|"
            "see the|it resets"
        )
        for sentence in reply(name).messages:
            assert re.search(advice, sentence.text, re.IGNORECASE), sentence.text

    def test_names_no_provider_and_nothing_of_ours(self, name: str) -> None:
        names = (
            "openai|azure|anthropic|claude|gpt|gemini|google|vertex|bedrock|aws|amazon|mistral|"
            "cohere|groq|xai|grok|deepseek|qwen|alibaba|minimax|zhipu|hunyuan|moonshot|together|"
            "fireworks|openrouter|litellm|portkey|vllm|sglang|ollama|hugging|nvidia|cloudflare|"
            "upstream|proxy|discreet|backend|gateway"
        )
        for sentence in reply(name).messages:
            assert not re.search(rf"\b({names})\b", sentence.text, re.IGNORECASE)

    def test_can_be_reached(self, name: str) -> None:
        named = {rule.reply for rule in TABLE.rules} | {TABLE.default}
        named |= {
            instead for one in TABLE.replies.values() if (instead := one.if_proxy_credentials)
        }
        assert name in named


@pytest.mark.parametrize("rule", TABLE.rules, ids=lambda rule: rule.name)
def test_no_pattern_holds_an_id_a_key_or_a_url(rule: Rule) -> None:
    for pattern in rule.when.message:
        assert not re.search(r"sk-|org-|req_|https?://", pattern.text)


KEY_FAULTS = ["invalid_api_key", "insufficient_quota", "permission_denied", "usage_limit_reached"]


@pytest.mark.parametrize("name", KEY_FAULTS)
def test_a_fault_of_the_key_is_the_operators_where_the_key_is(name: str) -> None:
    error = UpstreamError(origin=Origin.HTTP, code=name)
    assert resolve(error).reply.code == name
    assert resolve(error, "proxy").reply.code == "upstream_unavailable"
    assert reply(name).if_proxy_credentials == "upstream_unavailable"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_request"),
        (401, "invalid_api_key"),
        (402, "insufficient_quota"),
        (403, "permission_denied"),
        (404, "not_found"),
        (408, "upstream_timeout"),
        (409, "conflict"),
        (413, "request_too_large"),
        (418, "invalid_request"),
        (429, "rate_limit_exceeded"),
        (451, "permission_denied"),
        (500, "server_error"),
        (502, "upstream_unavailable"),
        (503, "server_is_overloaded"),
        (504, "upstream_timeout"),
        (529, "server_is_overloaded"),
        (567, "server_error"),
    ],
)
def test_a_bare_status_says_enough(status: int, code: str) -> None:
    assert resolve(UpstreamError(origin=Origin.HTTP, status=status)).reply.code == code


ORIGINS_OWN = [
    ("invalid_base64", "invalid_base64_image"),
    ("invalid_base64_image", "invalid_base64_image"),
    ("rate_limit_exceeded", "rate_limit_exceeded"),
    ("some_code_nobody_knows", "server_error"),
    ("", "server_error"),
]


@pytest.mark.parametrize(("code", "wanted"), ORIGINS_OWN)
def test_the_origins_mapping_holds(code: str, wanted: str) -> None:
    got = resolve(UpstreamError(origin=Origin.STREAM, code=code, message="fake detail")).reply
    assert got.responses_code == wanted
    assert "fake detail" not in got.message


def test_an_overlong_prompt_is_never_retried() -> None:
    error = UpstreamError(
        origin=Origin.STREAM,
        message="This model's maximum context length is 8192 tokens. However, you sent 9000.",
    )
    got = resolve(error).reply
    assert (got.code, got.responses_code) == ("context_length_exceeded", "invalid_prompt")
    assert "8192 tokens" in got.message
    assert "exceeds the context window" in got.message
    assert not got.retryable


def test_a_delay_is_told_as_clients_parse_it() -> None:
    error = TABLE.reader.read(
        {"message": "Rate limit reached. Please try again in 3.2s."}, Origin.STREAM
    )
    got = resolve(error).reply
    assert "try again in 4s" in got.message
    assert got.retry_after == 3.2


@pytest.mark.parametrize("surface", SURFACES)
def test_every_surface_gets_a_reply(surface: str) -> None:
    got = TABLE.resolve(UpstreamError(origin=Origin.HTTP), Context(surface, "client", "ref0"))
    assert got.reply.code == "server_error"
    assert "ref0" in got.reply.message
