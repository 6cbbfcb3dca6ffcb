"""Every rule proves itself by its example."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.core.problem import Problem, TableError
from proxy.core.table_check import check
from proxy.core.table_file import load_checked, parse

HEAD = """\
version: 1
extends: none
default: server_error
replies:
  server_error: {status: 500, type: t, message: "Again.", retryable: true}
rules:
"""


def problems(rules: str) -> list[Problem]:
    return check(parse((HEAD + rules).encode(), "my.yaml"))


def rule(name: str, when: str, example: str) -> str:
    return f"  - {{name: {name}, when: {when}, reply: server_error, example: {example}}}\n"


def test_a_rule_that_its_example_reaches_is_proved() -> None:
    assert problems(rule("a", "{code: x1}", "{code: x1}")) == []


def test_an_example_that_does_not_match_is_a_problem() -> None:
    (problem,) = problems(rule("a", "{code: x1}", "{code: x2}"))
    assert str(problem) == (
        "my.yaml:7: the example of 'a' does not match its own rule: code is 'x2'\n"
        "    Correct the example or the conditions."
    )


def test_a_rule_hidden_by_an_earlier_one_is_a_problem() -> None:
    (problem,) = problems(
        rule("a", "{status: 4xx}", "{status: 400}") + rule("b", "{status: 404}", "{status: 404}")
    )
    assert str(problem) == (
        "my.yaml:8: the example of 'b' is taken by 'a' (my.yaml:7)\n"
        "    Move this rule above that one, or make that one narrower."
    )


def test_an_example_can_say_every_condition() -> None:
    assert (
        problems(
            rule("a", "{failure: draining}", "{failure: draining}")
            + rule("b", "{provider: acme, code: 7}", "{provider: acme, code: 7}")
            + rule("c", "{surface: messages, type: x1}", "{surface: messages, type: x1}")
            + rule("d", "{origin: item}", "{origin: item}")
            + rule("e", "{credentials: proxy, param: model}", "{credentials: proxy, param: model}")
            + rule("f", "{message: too long}", "{message: It is too long.}")
        )
        == []
    )


def test_taking_over_a_shipped_rule_is_no_problem(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(
        "version: 1\nrules:\n"
        "  - {name: mine, when: {status: 5xx}, reply: server_error, example: {status: 500}}\n"
    )
    assert load_checked(file).rules[0].name == "mine"


def test_a_table_is_loaded_only_with_its_proof(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(HEAD + rule("a", "{code: x1}", "{code: x2}"))
    with pytest.raises(TableError, match="does not match its own rule"):
        load_checked(file)
