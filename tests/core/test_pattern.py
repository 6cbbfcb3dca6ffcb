"""Patterns find the telling words; their slots let nothing through but numbers and field names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.pattern import Pattern, Sentence, is_field_name, whole_seconds

MATCHES = [
    ("length is {limit:int} tokens", "The length is 8192 tokens.", {"limit": "8192"}),
    ("length {limit:int}", "length 128,000 here", {"limit": "128000"}),
    ("length {limit:int}", "length 1,048,576", {"limit": "1048576"}),
    ("length {limit:int}", "length 007", {"limit": "7"}),
    ("top {p:float} used", "top 0.95 used", {"p": "0.95"}),
    ("top {p:float} used", "top 1 used", {"p": "1"}),
    ("parameter '{param:name}'", "Bad parameter 'max_tokens' given", {"param": "max_tokens"}),
    (
        "parameter {param:name} is",
        "parameter messages[0].content is bad",
        {"param": "messages[0].content"},
    ),
    ("Rate LIMIT reached", "RATE limit REACHED for you", {}),
    ("the model ... does not exist", "The model `secret` does not exist", {}),
    ("the model … does not exist", "the model x does not exist", {}),
    ("the model ... does not exist", "the model does not exist", {}),
    ("'models...' is bad", "'models/x' is bad", {}),
    ("余额", "您的余额不足", {}),
    ("the model ... does not exist", "the model does not exist. A does not exist", {}),
    ("a[b](c)*+?.^$|\\", "see a[b](c)*+?.^$|\\ there", {}),
    ("  spaced   out  ", "spaced out", {}),
    ("'quoted'", "x'quoted'y", {}),
    ("quota", "quota_exceeded", {}),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "message", "slots"), MATCHES)
def test_a_pattern_matches(pattern: str, message: str, slots: dict[str, str]) -> None:
    assert Pattern.parse(pattern).match(message) == slots


MISSES = [
    ("context length is {limit:int} tokens", "context length is many tokens"),
    ("length {limit:int} t", "length 1234567890123 t"),  # more than 12 digits is an id
    ("length {limit:int} t", "length 12345,678 t"),
    ("length {limit:int} t", "length ٣ t"),  # other scripts' digits
    ("top {p:float} used", "top 1.2.3 used"),
    ("top {p:float} used", "top -1 used"),
    ("parameter {param:name} is", "parameter sk-FAKE is bad"),
    ("parameter {param:name} is", "parameter acme_deployment is bad"),
    ("parameter {param:name} is", "parameter messages.acme is bad"),
    ("quota", "quotas"),
    ("quota", "unquota"),
    ("the model ... does not exist", f"the model {'x' * 300} does not exist"),
    ("the model ... does not exist", "the modeldoes not exist"),
    ("rate limit", ""),
    ("rate limit", "rate-limit"),
]


@pytest.mark.parametrize(("pattern", "message"), MISSES)
def test_a_pattern_does_not_match(pattern: str, message: str) -> None:
    assert Pattern.parse(pattern).match(message) is None


REFUSED = [
    ("{limit}", "the slot {limit} is not {name:type}"),
    ("{limit:integer} tokens", "the slot {limit:integer} is not {name:type}"),
    ("{Limit:int} tokens", "the slot {Limit:int} is not"),
    ("{} tokens", "the slot {} is not"),
    ("{a:int} of {a:int} tokens", "the slot {a} stands twice"),
    ("{a:int} ab", "fewer than 3 letters"),
    ("...", "fewer than 3 letters"),
    ("余 ...", "fewer than 3 letters"),
    ("a ... b ... c ... d", "more than 2 gaps"),
]


@pytest.mark.parametrize(("pattern", "why"), REFUSED)
def test_a_pattern_that_says_too_little_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Pattern.parse(pattern)


DURATIONS = [
    ("35", "35"),
    ("11.054s", "11.054"),
    ("28ms", "0.028"),
    ("35 seconds", "35"),
    ("1 second", "1"),
    ("2 minutes", "120"),
    ("2m", "120"),
    ("1m30s", "90"),
    ("1m30.5s", "90.5"),
    ("1h2m3s", "3723"),
    ("1d2h3m4s", "93784"),
    ("1 hour 30 minutes", "5400"),
    ("6 hrs", "21600"),
    ("3 days", "259200"),
    ("250 milliseconds", "0.25"),
    ("999999999 days", "86399999913600"),
]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_a_delay_is_read_in_seconds(text: str, seconds: str) -> None:
    pattern = Pattern.parse("try again in {delay:duration}")
    assert pattern.match(f"Please try again in {text}.") == {"delay": seconds}


def test_a_word_behind_a_delay_is_no_unit_of_it() -> None:
    pattern = Pattern.parse("try again in {delay:duration}")
    assert pattern.match("try again in 5 monkeys") == {"delay": "5"}
    assert pattern.match("try again in 5 minutes or 3 days") == {"delay": "300"}


FIELDS = {
    "model": True,
    "messages[0].content": True,
    "messages.0.content": True,
    "input[2].content[0].image_url": True,
    "text.format": True,
    "": False,
    "0": False,
    "sk-FAKE0000": False,
    "gpt_internal_fake": False,
    "model.internal_fake": False,
    "model ": False,
    "model\n": False,
    "messages[12345]": False,
    "messages.12345": False,
    "messages.10.203.113.77": False,
    "messages[1][2]": False,
    "messages[0].content.fake": False,
    "mödel": False,
}


@pytest.mark.parametrize(("name", "is_one"), FIELDS.items())
def test_only_the_apis_own_field_names_are_field_names(name: str, *, is_one: bool) -> None:
    assert is_field_name(name) is is_one


_WORDS = st.sampled_from(
    ["messages", "[0]", ".", "content", "sk-FAKE", "_", "9", "host.fake", "[", "]", " ", "tools"]
)


@given(st.lists(_WORDS).map("".join))
def test_a_field_name_holds_no_word_of_its_own(text: str) -> None:
    if is_field_name(text):
        assert "FAKE" not in text
        assert "fake" not in text
        assert Pattern.parse("parameter {param:name}").match(f"parameter {text}") == {"param": text}


@given(st.text(), st.text(alphabet=st.characters(max_codepoint=0x7F)))
def test_matching_never_raises(text: str, message: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except ValueError:
        return
    pattern.match(message)
    pattern.match(text)


class TestSentence:
    def test_says_its_text(self) -> None:
        assert Sentence.parse("Try again.").fill({}) == "Try again."

    def test_is_filled_from_slots(self) -> None:
        sentence = Sentence.parse("At most {limit} of {limit}, {unit}.")
        assert sentence.slots == ("limit", "limit", "unit")
        assert sentence.fill({"limit": "5", "unit": "s"}) == "At most 5 of 5, s."

    def test_is_not_said_where_a_slot_has_no_value(self) -> None:
        assert Sentence.parse("At most {limit}, {unit}.").fill({"limit": "5"}) is None

    def test_a_value_is_no_template(self) -> None:
        assert Sentence.parse("Say {a} {b}.").fill({"a": "{b}", "b": "x"}) == "Say {b} x."

    @pytest.mark.parametrize("text", ["", "  ", "a\nb", "a\x07b", "{limit:int}", "{}", "{Limit}"])
    def test_without_a_plain_text_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"slot|needs text"):
            Sentence.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.001, "1"), (1.0, "1"), (1.2, "2"), (34.4, "35"), (86400.0, "86400")]
)
def test_a_delay_is_told_rounded_up(seconds: float, text: str) -> None:
    assert whole_seconds(seconds) == text
