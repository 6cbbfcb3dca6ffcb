"""An error in, a reply out: the first rule that matches decides, and nothing upstream shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import Credentials, Origin, Reply, UpstreamError
from proxy.core.failures import Failure
from proxy.core.table import Context, Table
from proxy.core.table_file import parse

HEAD = """
version: 1
extends: none
default: server_error
replies:
  server_error: {status: 500, type: server_error, message: "Please try again.", retryable: true}
  first: {status: 400, type: t, message: "First.", retryable: false, responses_code: invalid_prompt}
  second: {status: 429, type: t, message: "Two.", retryable: true, responses_code: server_error}
"""


def table(rules: str, head: str = HEAD) -> Table:
    return parse(f"{head}\nrules:\n{rules}".encode(), "test.yaml")


def rule(when: str, reply: str = "first", name: str = "a") -> str:
    return f"  - {{name: {name}, when: {when}, reply: {reply}, example: {{status: 400}}}}\n"


def error(**said: Any) -> UpstreamError:
    return UpstreamError(**{"origin": Origin.HTTP, **said})


def resolve(
    one: Table, said: UpstreamError, *, surface: str = "chat", credentials: Credentials = "client"
) -> Reply:
    return one.resolve(said, Context(surface, credentials, "ref0")).reply


MATCHES: list[tuple[str, dict[str, Any], bool]] = [
    ("{status: 429}", {"status": 429}, True),
    ("{status: 429}", {"status": 428}, False),
    ("{status: 429}", {}, False),
    ("{status: 4xx}", {"status": 499}, True),
    ("{status: 4xx}", {"status": 500}, False),
    ("{status: [400, 5xx]}", {"status": 503}, True),
    ("{code: rate_limit}", {"code": "Rate-Limit"}, True),
    ("{code: RateLimit}", {"code": "rate.limit"}, True),
    ("{code: rate_limit}", {"code": "rate_limits"}, False),
    ("{code: rate_limit}", {"type": "rate_limit"}, True),
    ("{code: rate_limit}", {"code": "x", "type": "rate_limit"}, False),
    ("{code: 1008}", {"code": "1008"}, True),
    ("{code: [a1, b2]}", {"code": "b2"}, True),
    ("{type: rate_limit}", {"type": "RATE_LIMIT"}, True),
    ("{type: rate_limit}", {"code": "rate_limit"}, False),
    ("{param: model}", {"param": "MODEL"}, True),
    ("{param: model}", {"param": "models"}, False),
    ("{message: too long}", {"message": "It is TOO LONG."}, True),
    ("{message: too long}", {"message": "It is long."}, False),
    ("{message: too long}", {}, False),
    ("{message: [too long, too big]}", {"message": "too big"}, True),
    ("{provider: acme}", {"provider": "acme"}, True),
    ("{provider: acme}", {}, False),
    ("{origin: item}", {"origin": Origin.ITEM}, True),
    ("{origin: item}", {}, False),
    ("{surface: [chat, messages]}", {}, True),
    ("{surface: responses}", {}, False),
    ("{credentials: client}", {}, True),
    ("{credentials: proxy}", {}, False),
    ("{failure: stream_idle_timeout}", {"failure": Failure.IDLE}, True),
    ("{failure: stream_idle_timeout}", {"failure": Failure.TLS}, False),
    ("{failure: stream_idle_timeout}", {}, False),
    ("{status: 500}", {"failure": Failure.IDLE, "status": 500}, False),
    ("{status: 429, code: x1}", {"status": 429, "code": "x1"}, True),
    ("{status: 429, code: x1}", {"status": 429, "code": "x2"}, False),
    ("{status: 429, code: x1}", {"status": 428, "code": "x1"}, False),
]


@pytest.mark.parametrize(("when", "said", "matches"), MATCHES)
def test_a_rule_matches_when_all_its_conditions_hold(
    when: str, said: dict[str, Any], *, matches: bool
) -> None:
    reply = resolve(table(rule(when)), error(**said))
    assert reply.code == ("first" if matches else "server_error")


def test_the_first_rule_that_matches_decides() -> None:
    one = table(rule("{status: 4xx}", "second") + rule("{status: 400}", "first", "b"))
    assert resolve(one, error(status=400)).code == "second"


def test_a_trace_says_why_each_rule_was_passed_over() -> None:
    one = table(
        rule("{status: 5xx}")
        + rule("{code: x1}", name="b")
        + rule("{type: x1}", name="c")
        + rule("{param: model}", name="d")
        + rule("{message: too long}", name="e")
        + rule("{failure: draining}", name="f")
        + rule("{provider: acme}", name="g")
        + rule("{status: 400}", name="h")
        + rule("{status: 400}", name="never")
    )
    said = error(status=400, message="M")
    steps = list(one.trace(said, Context("chat", "client", "ref0")))
    assert [(step.rule.name, step.why_not) for step in steps] == [
        ("a", "status is 400"),
        ("b", "code is empty"),
        ("c", "type is empty"),
        ("d", "param is empty"),
        ("e", "no message pattern matches"),
        ("f", "the provider said this; the rule is for what the proxy sees"),
        ("g", "provider is not known"),
        ("h", ""),
    ]


def test_a_trace_that_ends_in_the_default_has_every_rule() -> None:
    one = table(
        rule("{code: x1}")
        + rule("{failure: draining}", name="b")
        + rule("{message: too long}", name="c")
        + rule("{status: 400}", name="d")
    )
    context = Context("chat", "client", "ref0")
    said = [
        error(failure=Failure.IDLE),
        error(code="x2"),
    ]
    assert [[step.why_not for step in one.trace(each, context)] for each in said] == [
        [
            "the proxy saw this; the rule is for what a provider says",
            "failure is stream_idle_timeout",
            "the proxy saw this; the rule is for what a provider says",
            "the proxy saw this; the rule is for what a provider says",
        ],
        [
            "code is 'x2'",
            "the provider said this; the rule is for what the proxy sees",
            "there is no message",
            "status is not known",
        ],
    ]


class TestLayers:
    def test_the_inner_error_is_matched_as_well(self) -> None:
        said = error(status=500, code="outer", inner=error(status=429, code="x1"))
        assert resolve(table(rule("{code: x1}")), said).code == "first"

    def test_conditions_hold_on_one_layer(self) -> None:
        said = error(status=500, code="outer", inner=error(status=429, code="x1"))
        assert resolve(table(rule("{code: x1, status: 500}")), said).code == "server_error"

    def test_an_error_inside_a_failure_is_matched_too(self) -> None:
        said = error(failure=Failure.CUT_IN_EVENT, inner=error(code="x1"))
        rules = rule("{code: x1}") + rule("{failure: stream_cut_inside_event}", "second", "b")
        assert resolve(table(rules), said).code == "first"


SLOTS = (
    """
version: 1
extends: none
default: server_error
replies:
  server_error:
    status: 500
    type: server_error
    message: ["See {reference}, wait {retry_after}s, check {param}.", "See {reference}.", "Again."]
    param: true
    retryable: true
  too_long:
    status: 400
    type: t
    responses_code: invalid_prompt
    message: ["At most {limit}, not {count}.", "At most {limit}.", "Shorten it."]
    retryable: false
""",
    """
  - name: long
    when: {message: ["limit {limit:int} but {count:int}", "limit {limit:int}", "too long"]}
    reply: too_long
    example: {message: "limit 5"}
  - name: param
    when: {message: "parameter {param:name} is bad"}
    reply: server_error
    example: {message: "parameter model is bad"}
""",
)


class TestSlots:
    one = table(SLOTS[1], SLOTS[0])

    @pytest.mark.parametrize(
        ("message", "sentence"),
        [
            ("limit 5 but 7", "At most 5, not 7."),
            ("limit 8,192!", "At most 8192."),
            ("too long", "Shorten it."),
            ("limit many, too long", "Shorten it."),
        ],
    )
    def test_the_first_sentence_that_can_be_filled_is_said(
        self, message: str, sentence: str
    ) -> None:
        assert resolve(self.one, error(message=message)).message == sentence

    @pytest.mark.parametrize(
        ("said", "sentence"),
        [
            ({"retry_after": 1.2, "param": "model"}, "See ref0, wait 2s, check model."),
            ({"retry_after": 1.2, "param": "acme_secret"}, "See ref0."),
            ({"retry_after": 1.2}, "See ref0."),
            ({"retry_after": 86_401.0, "param": "model"}, "See ref0."),
            ({"retry_after": 0.0, "param": "model"}, "See ref0."),
            ({"retry_after": -1.0, "param": "model"}, "See ref0."),
            ({"retry_after": float("nan"), "param": "model"}, "See ref0."),
            ({"retry_after": float("inf"), "param": "model"}, "See ref0."),
            ({"retry_after": 86_400.0, "param": "model"}, "See ref0, wait 86400s, check model."),
        ],
    )
    def test_delay_reference_and_param_fill_themselves(
        self, said: dict[str, Any], sentence: str
    ) -> None:
        reply = resolve(self.one, error(**said))
        assert reply.message == sentence
        assert reply.reference == "ref0"

    def test_a_param_can_come_from_the_message(self) -> None:
        said = error(message="parameter tools[0].name is bad", param="model", retry_after=1)
        reply = resolve(self.one, said)
        assert reply.param == "tools[0].name"
        assert reply.message == "See ref0, wait 1s, check tools[0].name."

    def test_a_param_can_come_from_the_inner_error(self) -> None:
        said = error(param="secret-deployment", inner=error(code="x", param="model"))
        assert resolve(self.one, said).param == "model"

    def test_a_param_is_told_only_where_the_reply_says_so(self) -> None:
        assert resolve(self.one, error(message="too long", param="model")).param is None

    def test_a_delay_is_told_only_where_a_retry_helps(self) -> None:
        assert resolve(self.one, error(retry_after=5.0)).retry_after == 5.0
        assert resolve(self.one, error(message="too long", retry_after=5.0)).retry_after is None


CREDENTIALS = (
    HEAD
    + """
  bad_key: {status: 401, type: t, message: "Check the key.", retryable: false,
            responses_code: invalid_prompt, if_proxy_credentials: second}
"""
)


@pytest.mark.parametrize(("credentials", "code"), [("client", "bad_key"), ("proxy", "second")])
def test_a_refused_key_is_the_operators_fault_where_the_proxy_added_it(
    credentials: Credentials, code: str
) -> None:
    one = table(rule("{status: 401}", "bad_key"), CREDENTIALS)
    resolution = one.resolve(error(status=401), Context("chat", credentials, "ref0"))
    assert resolution.reply.code == code
    assert resolution.rule is not None
    assert resolution.rule.reply == "bad_key"


@pytest.mark.parametrize(
    ("vocabulary", "code"), [("spec", "invalid_prompt"), ("extended", "first")]
)
def test_the_vocabulary_says_what_stands_in_the_closed_enum(vocabulary: str, code: str) -> None:
    one = table(rule("{status: 400}"), f"{HEAD}vocabulary: {vocabulary}\n")
    reply = resolve(one, error(status=400))
    assert (reply.code, reply.responses_code) == ("first", code)


def test_a_reply_of_the_enum_stands_for_itself() -> None:
    assert resolve(table(rule("{status: 400}")), error()).responses_code == "server_error"


def test_every_field_of_a_reply_is_the_tables() -> None:
    said = error(
        status=418, code="c", type="t", param="p", message="M", retry_after=3.0, raw=b"raw"
    )
    assert resolve(table(rule("{status: 400}")), said) == Reply(
        code="server_error",
        responses_code="server_error",
        status=500,
        type="server_error",
        message="Please try again.",
        param=None,
        retryable=True,
        retry_after=3.0,
        reference="ref0",
    )


_TEXT = st.text(max_size=30)


@given(
    st.builds(
        UpstreamError,
        origin=st.sampled_from(Origin),
        failure=st.none() | st.sampled_from(Failure),
        status=st.none() | st.integers(100, 599),
        code=_TEXT,
        type=_TEXT,
        param=_TEXT,
        message=_TEXT | st.just("limit 12 but 13") | st.just("parameter 'model' is bad"),
        retry_after=st.none() | st.floats(),
        inner=st.none() | st.builds(UpstreamError, origin=st.just(Origin.HTTP), message=_TEXT),
    )
)
def test_resolving_is_total(said: UpstreamError) -> None:
    reply = resolve(TestSlots.one, said)
    assert reply.code in TestSlots.one.replies
    assert reply.message
    assert "{" not in reply.message
