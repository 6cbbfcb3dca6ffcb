"""A layout says where one provider keeps its error; it never raises on any JSON."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.errors import Origin
from proxy.core.evidence import Reader
from proxy.core.layout import Condition, Layout, Layouts, Scalar, look_up, parse_path


def layout(path: str, condition: Condition, **paths: str) -> Layout:
    return Layout(
        provider="acme",
        error_when=((parse_path(path), condition),),
        **{name: parse_path(text) for name, text in paths.items()},
    )


LOOKED_UP = [
    ({"a": {"b": 1}}, "a.b", 1),
    ({"a": [{"b": 1}, {"b": 2}]}, "a.1.b", 2),
    ({"a": {"0": "key"}}, "a.0", "key"),
    ({"a": []}, "a.0", None),
    ({"a": [1]}, "a.1", None),
    ({"a": [1]}, "a.x", None),
    ({"a": [1]}, "a.²", None),
    ({"a": "text"}, "a.0", None),
    ({"a": None}, "a.b", None),
    ({}, "a", None),
    ("text", "a", None),
]


@pytest.mark.parametrize(("value", "path", "wanted"), LOOKED_UP)
def test_a_path_leads_to_a_value_or_to_none(value: object, path: str, wanted: object) -> None:
    assert look_up(value, parse_path(path)) == wanted


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b"])
def test_a_path_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        parse_path(text)


HOLDS: list[tuple[str, tuple[Scalar, ...], object, bool]] = [
    ("not", (0,), 0, False),
    ("not", (0,), "0", False),
    ("not", (0,), 1008, True),
    ("not", (0, 200), 200, False),
    ("is", (False,), False, True),
    ("is", (False,), True, False),
    ("is", ("failed", "error"), "error", True),
    ("is", ("failed",), "ok", False),
    ("is", (), "anything", True),
    ("is", (), "", False),
    ("is", (), None, False),
]


@pytest.mark.parametrize(("kind", "values", "value", "wanted"), HOLDS)
def test_a_condition_compares_as_text(
    kind: Any, values: tuple[Scalar, ...], value: object, *, wanted: bool
) -> None:
    one = layout("a.b", Condition(kind, values))
    assert one.recognises({"a": {"b": value}}) is wanted


@pytest.mark.parametrize("condition", [Condition("not", (0,)), Condition("is", (0,))])
def test_a_value_that_is_not_there_is_no_error(condition: Condition) -> None:
    assert not layout("a.b", condition).recognises({"a": {}})


def test_every_condition_must_hold() -> None:
    both = Layout(
        provider="acme",
        error_when=(
            (parse_path("code"), Condition("not", (0,))),
            (parse_path("text"), Condition("is", ())),
        ),
    )
    assert both.recognises({"code": 1, "text": "x"})
    assert not both.recognises({"code": 1})
    assert not both.recognises({"code": 0, "text": "x"})


def test_the_first_layout_that_recognises_an_object_reads_it() -> None:
    first = layout("a", Condition("is", (1,)))
    second = layout("a", Condition("is", ()))
    layouts = Layouts([first, second])
    assert layouts.find({"a": 1}) is first
    assert layouts.find({"a": 2}) is second
    assert layouts.find({"b": 1}) is None
    assert Layouts().find({"a": 1}) is None


def test_evidence_is_read_by_the_layouts_paths() -> None:
    full = layout(
        "head.state",
        Condition("not", ("ok",)),
        code="head.state",
        type="head.kind",
        message="head.text",
        param="head.where",
        status="head.http",
        retry_after="head.wait",
    )
    head = {"state": 77, "kind": "busy", "text": "T", "where": "model", "http": "503", "wait": 3}
    error = Reader(Layouts([full])).read({"head": head}, Origin.BODY)
    assert error.provider == "acme"
    assert (error.code, error.type, error.message) == ("77", "busy", "T")
    assert (error.param, error.status, error.retry_after) == ("model", 503, 3.0)


def test_a_layout_without_paths_still_names_its_provider() -> None:
    bare = layout("ok", Condition("is", (False,)), code="why")
    error = Reader(Layouts([bare])).read({"ok": False, "why": "busy"}, Origin.BODY)
    assert (error.provider, error.code, error.message) == ("acme", "busy", "")
