"""JSON is read as leniently as clients read it, and always written."""

from __future__ import annotations

import math

import pytest

from proxy.core.jsontext import has_names_once, has_no_error, parse_json, write_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        ('{"a":1}', {"a": 1}),
        (b'"\\ud83d"', "\ud83d"),
        (b"[-Infinity]", [-math.inf]),
        (b"null", None),
        (b"", None),
        (b"not json", None),
        (b"{'a':1}", None),
        (b'{"a":1} ', {"a": 1}),
        (b'{"a":1}{', None),
        (b'"\xff"', None),
        (b"[" * 100_000, None),
    ],
    ids=str,
)
def test_json_is_parsed_or_none(text: bytes | str, value: object) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize("piece", [b"{},", b"[],", b'{"a":[{}]},'])
def test_what_would_fill_the_memory_is_not_parsed(piece: bytes) -> None:
    few, many = (b"[%b0]" % (piece * count) for count in (1000, 1_000_000))
    assert len(parse_json(few)) == 1001
    assert parse_json(many) is None
    behind = b'["%b",%b' % (b"x" * 10_000_000, many[1:])
    assert parse_json(behind) is None


def test_a_large_text_of_few_parts_is_parsed() -> None:
    assert len(parse_json(b'["%b"]' % (b"{" * 900_000 + b"x" * 900_000))[0]) == 1_800_000


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("quotes", [1, 5000])
@pytest.mark.parametrize("word", [b'"error"', b'"\\u0065rror"', b'"\\u0072"'])
def test_an_error_is_seen_in_a_text_of_any_size(size: int, quotes: int, word: bytes) -> None:
    around = b'["%b"]' % (b"x" * size)
    many = b",".join([b'"a"'] * quotes)
    assert has_no_error(b"[%b,%b,%b]" % (around, many, around))
    assert not has_no_error(b"[%b,%b,%b,%b]" % (around, many, word, around))
    assert not has_no_error(b"[%b,%b]" % (word, around))


def test_an_endless_number_never_raises() -> None:
    assert parse_json(b"9" * 5000) in (None, math.inf)


@pytest.mark.parametrize(
    "number", ["0", "-0", "9223372036854775808", "18446744073709551616", "-9223372036854775809"]
)
def test_a_number_is_the_same_whatever_stands_beside_it(number: str) -> None:
    alone, beside_an_error, beside_nan = (
        parse_json(f'{{"a":{number}{other}}}') for other in ("", ',"error":1,"error":1', ',"b":NaN')
    )
    assert repr(alone["a"]) == repr(beside_an_error["a"]) == repr(beside_nan["a"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "ü"}, '{"a":"ü"}'.encode()),
        ({"a": "\ud83d"}, b'{"a":"\\ud83d"}'),
        ({"a": 2**70}, b'{"a":1180591620717411303424}'),
    ],
)
def test_json_is_written_on_one_line(value: object, text: bytes) -> None:
    assert write_json(value) == text


@pytest.mark.parametrize("depth", [200, 300, 900])
def test_what_is_nested_deeply_can_be_written(depth: int) -> None:
    text = b"[" * depth + b"]" * depth
    assert write_json(parse_json(text)) == text


@pytest.mark.parametrize("depth", [990, 1000, 1020, 1024])
def test_what_is_nested_absurdly_never_raises(depth: int) -> None:
    text = b"[" * depth + b"]" * depth
    assert write_json(parse_json(text)) in (text, b"null")


HIDDEN = {
    "an error behind null": b'{"error":{"message":"fake"},"error":null}',
    "an error before a null that has spaces": b'{"error": {"message":"fake"}, "error": null}',
    "an error beside nulls": b'[{"error":null},{"error":{"a":1},"error":null},{"error":null}]',
    "a text behind null": b'{"error":"fake","error":null,"choices":[]}',
    "a list beside a null": b'{"choices":[1],"choices":[],"error":null}',
    "an object before one that says it has no error": b'{"r":{"a":1},"r":{"error":null}}',
    "an error, with as many quotes as if it were not": b'{"error":"fake","error":"%b"}'
    % (b"\\u0022" * 4),
    "an error in hidden choices": b'{"choices":[{"error":"fake"}],"choices":[]}',
    "deeper down": b'[{"a":{"error":{"a":1},"error":false}}]',
    "spelled with escapes": b'{"\\u0065rror":{"message":"fake"},"error":null}',
    "spelled with escapes both times": b'{"err\\u006fr":"fake","e\\u0072ror":null}',
}


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_what_another_parser_would_read_is_not_hidden(text: bytes) -> None:
    assert parse_json(text) is None
    assert parse_json(text.decode()) is None
    assert not has_no_error(text)


TWICE = {
    "null twice": b'{"error":null,"error":null}',
    "an error that both parsers read": b'{"error":null,"error":{"code":"c"}}',
    "a word": b'{"error":null,"model":"a","model":"b"}',
    "without any error": b'{"choices":[1],"choices":[]}',
}


@pytest.mark.parametrize("text", TWICE.values(), ids=TWICE)
def test_what_stands_twice_and_hides_nothing_is_read(text: bytes) -> None:
    assert isinstance(parse_json(text), dict)


def test_an_error_in_a_strings_text_is_no_name() -> None:
    assert has_no_error(b'{"delta":"{\\"error\\": 1}"}')


@pytest.mark.parametrize(
    ("text", "once"),
    [
        (b'{"a":1,"b":"a","c":{"a":"\\""}}', True),
        (b'{"a": [1, {"a": 2}]}', True),
        (b'{"a":1,"a":2}', False),
        (b'{"b":{"a":{},"a":"x"}}', False),
        (b'{"a":1,"a":"\\u0022\\u0022"}', False),
        (b'{"a":NaN}', False),
        ('{"a":1}'.encode("utf-16-le"), False),
        (b"[" * 500 + b'{"a":1,"a":2}' + b"]" * 500, False),
        (b"", False),
    ],
    ids=str,
)
def test_names_that_stand_twice_are_seen(text: bytes, once: bool) -> None:  # noqa: FBT001 - a case
    assert has_names_once(text) is once
