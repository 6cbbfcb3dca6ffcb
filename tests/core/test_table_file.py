"""A mappings file becomes a table, or every problem in it with its line and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.core.errors import Origin, UpstreamError
from proxy.core.problem import Problem, TableError
from proxy.core.table import Context, Table
from proxy.core.table_file import load, parse, shipped_file
from tests.playbook import shipped

OWN = """\
version: 1
extends: none
default: sorry
replies:
  sorry:
    status: 500
    type: t
    message: "Again."
    retryable: true
    responses_code: server_error
rules:
  - name: a
    when: {code: x1}
    reply: sorry
    example: {code: x1}
"""

EXTENDED = """\
version: 1
rules:
  - name: mine
    when: {code: x1}
    reply: server_error
    example: {code: x1}
"""


def read(text: str | bytes) -> Table:
    return parse(text if isinstance(text, bytes) else text.encode(), "my.yaml")


def problems(text: str | bytes) -> list[Problem]:
    with pytest.raises(TableError) as refused:
        read(text)
    assert str(refused.value) == "\n".join(map(str, refused.value.problems))
    return refused.value.problems


def code_of(table: Table, code: str) -> str:
    error = UpstreamError(origin=Origin.HTTP, code=code)
    return table.resolve(error, Context("chat", "client", "ref0")).reply.code


# One mistake each: where it is made, what is said of it, and the remedy's telling words.
MISTAKES: dict[str, tuple[str, str, int, str, str]] = {
    "a key given twice": (
        "    status: 500\n", "    status: 500\n    status: 501\n",
        7, "the key 'status' stands twice (first in line 6)", "Merge the two.",
    ),
    "an alias": (
        '    type: t\n    message: "Again."', "    type: &t t\n    message: *t",
        8, "an alias (*name)", "Write the value out",
    ),
    "an unknown key": (
        "    status: 500\n", "    statsu: 500\n    status: 500\n",
        6, "unknown key 'statsu'", "Did you mean 'status'?",
    ),
    "an unknown key of a rule": (
        "    when: {code", "    wen: {}\n    when: {code",
        13, "unknown key 'wen'", "Did you mean 'when'?",
    ),
    "an unknown key of a condition": (
        "when: {code: x1}", "when: {code: x1, messages: abc}",
        13, "unknown key 'messages'", "Did you mean 'message'?",
    ),
    "an unknown key like no other": (
        "rules:\n", "zzz: 1\nrules:\n",
        11, "unknown key 'zzz'", "Known here: version, extends, default",
    ),
    "a status that is none": (
        "status: 500", "status: 200",
        6, "replies.sorry.status is 200", "greater than or equal to 400",
    ),
    "a status that is text": (
        "status: 500", "status: many",
        6, "replies.sorry.status is 'many'", "valid integer",
    ),
    "a status class that is none": (
        "when: {code: x1}", "when: {status: 4x}",
        13, "rules.0.when.status is '4x'", "such as 429, or a class such as 5xx",
    ),
    "a missing key": (
        "    retryable: true\n", "",
        5, "replies.sorry.retryable is missing", "Add `retryable:`.",
    ),
    "a missing example": (
        "    example: {code: x1}\n", "",
        12, "rules.0.example is missing", "Add `example:`.",
    ),
    "a version that is none": (
        "version: 1", "version: 2",
        1, "version is 2", "Allowed: 1.",
    ),
    "extends what is not there": (
        "extends: none", "extends: shiped",
        2, "extends is 'shiped'", "Did you mean 'shipped'? Allowed: shipped, none.",
    ),
    "a code outside the enum": (
        "responses_code: server_error", "responses_code: server_eror",
        10, "replies.sorry.responses_code is 'server_eror'", "Did you mean 'server_error'?",
    ),
    "a name beside the enum without a code in it": (
        "    responses_code: server_error\n", "",
        5, "sorry is not in the Responses API's ResponseError enum", "Add `responses_code:`",
    ),
    "a failure that is none": (
        "when: {code: x1}", "when: {failure: stream_idle}",
        13, "rules.0.when.failure is 'stream_idle'", "Did you mean 'stream_idle_timeout'?",
    ),
    "a surface that is none": (
        "when: {code: x1}", "when: {surface: chats}",
        13, "rules.0.when.surface is 'chats'", "Did you mean 'chat'? Allowed: responses, chat",
    ),
    "credentials of nobody": (
        "when: {code: x1}", "when: {credentials: operator}",
        13, "rules.0.when.credentials is 'operator'", "Allowed: client, proxy.",
    ),
    "a reply's name that is none": (
        "  sorry:\n", "  So-sorry:\n",
        5, "is 'So-sorry'", "Use lower-case letters, digits and underscores.",
    ),
    "a rule's name that is none": (
        "name: a", "name: My_Rule",
        12, "rules.0.name is 'My_Rule'", "Use lower-case letters, digits and hyphens.",
    ),
    "a bad slot in a pattern": (
        "when: {code: x1}", "when: {message: 'at most {limit} tokens'}",
        13, "the slot {limit} is not {name:type}", "README",
    ),
    "a pattern without letters": (
        "when: {code: x1}", "when: {message: '{a:int}'}",
        13, "has fewer than 3 letters", "README",
    ),
    "a typed slot in a sentence": (
        'message: "Again."', 'message: ["At {limit:int}.", "Again."]',
        8, "{limit:int} is not a slot", "README",
    ),
    "a slot in the last sentence": (
        'message: "Again."', 'message: "Again in {retry_after}s."',
        8, "the last sentence of sorry has a slot", "without slots",
    ),
    "a slot that nothing fills": (
        'message: "Again."', 'message: ["At most {limit}.", "Again."]',
        8, "no rule fills the slot {limit}", "Add it to a message pattern",
    ),
    "a sentence without text": (
        'message: "Again."', 'message: ""',
        8, "a sentence needs text", "README",
    ),
    "a sentence that is a list of nothing": (
        'message: "Again."', "message: []",
        8, "replies.sorry.message is []", "at least 1 item",
    ),
    "no default": (
        "default: sorry\n", "",
        1, "there is no default", "Add `default:`",
    ),
    "a default that is not a reply": (
        "default: sorry", "default: sory",
        3, "the default 'sory' is not a reply", "Did you mean 'sorry'?",
    ),
    "a reply that is none": (
        "reply: sorry", "reply: server_error",
        14, "'server_error' is not a reply", "sorry",
    ),
    "a reply instead that is none": (
        "    retryable: true\n", "    retryable: true\n    if_proxy_credentials: nobody\n",
        10, "'nobody' is not a reply", "Known: sorry.",
    ),
    "no condition": (
        "when: {code: x1}", "when: {}",
        13, "has no condition", "Name at least one",
    ),
    "a disabled rule that is not there": (
        "rules:\n", "disable: [code-slow-down]\nrules:\n",
        11, "the shipped table has no rule 'code-slow-down'", "Known",
    ),
    "a delay without a slot": (
        "rules:\n", "retry_delays: [try again soon]\nrules:\n",
        11, "needs one slot", '"try again in {delay:duration}"',
    ),
    "a delay with the wrong slot": (
        "rules:\n", "retry_delays:\n  - wait {n:int} then\nrules:\n",
        12, "needs one slot", '"try again in {delay:duration}"',
    ),
    "a path that is none": (
        "rules:\n", "evidence:\n  - provider: acme\n    error_when: {a..b: {}}\nrules:\n",
        13, "'a..b' is not a path", "README",
    ),
    "evidence without a condition": (
        "rules:\n", "evidence:\n  - provider: acme\n    error_when: {}\nrules:\n",
        13, "evidence.0.error_when is {}", "at least 1 item",
    ),
    "an unknown key of a condition on a path": (
        "rules:\n", "evidence:\n  - {provider: acme, error_when: {a: {isnt: 0}}}\nrules:\n",
        12, "unknown key 'isnt'", "Did you mean 'is'?",
    ),
    "a code that is no word": (
        "when: {code: x1}", "when: {code: true}",
        13, "must be text; put it in quotes", "README",
    ),
    "an empty entry": (
        "rules:\n", "rules:\n  -\n",
        12, "an empty entry", "Take it out.",
    ),
    "replies that are a list": (
        "replies:\n  sorry:\n", "replies:\n  - sorry:\n",
        4, "replies is [", "dictionary",
    ),
    "a disabled rule's name that is none": (
        "rules:\n", "disable: [No_Name]\nrules:\n",
        11, "disable.0 is 'No_Name'", "hyphens",
    ),
    "a word that YAML takes for something else": (
        "when: {code: x1}", "when: {code: no}",
        13, "YAML takes 'no' for a bool", '"no" in quotes',
    ),
    "a date": (
        "when: {code: x1}", "when: {code: 2024-01-01}",
        13, "YAML takes '2024-01-01' for a timestamp", '"2024-01-01" in quotes',
    ),
    "a number in another base": (
        "when: {code: x1}", "when: {code: 0x10}",
        13, "YAML takes '0x10' for a int", '"0x10" in quotes',
    ),
    "an infinite number": (
        "status: 500", "status: .inf",
        6, "YAML takes '.inf' for a float", '".inf" in quotes',
    ),
    "a key that is no word": (
        "rules:\n", "? [a, b]\n: 1\nrules:\n",
        11, "a key that is not a word", "Write a plain key.",
    ),
    "a list where a mapping was due": (
        "when: {code: x1}", "when: [x1]",
        13, "rules.0.when is ['x1']", "dictionary",
    ),
    "a mapping where a list was due": (
        "rules:\n  - name", "rules:\n   x:\n    name",
        11, "rules is {", "list",
    ),
    "nesting without end": (
        "when: {code: x1}", "when: {code: [[[[[[[[[[[[x1]]]]]]]]]]]]}",
        13, "is nested too deeply", "A table has at most",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "what", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_every_mistake_has_its_line_and_a_remedy(
    old: str, new: str, line: int, what: str, remedy: str
) -> None:
    assert OWN.count(old) == 1
    found = problems(OWN.replace(old, new))
    fitting = [one for one in found if what in one.what]
    assert fitting, found
    assert fitting[0].file == "my.yaml"
    assert fitting[0].line == line
    assert remedy in fitting[0].remedy


NO_TABLES: dict[str, tuple[bytes, int, str]] = {
    "not YAML": (b"version: 1\nrules: [}\n", 2, "is not YAML"),
    "a tab": (b"version: 1\n\trules: []\n", 2, "is not YAML"),
    "control characters": (b"version: 1\x07\n", 1, "is not YAML"),
    "two documents": (OWN.encode() + b"---\n" + OWN.encode(), 16, "is not YAML"),
    "not UTF-8": (b"version: \xff\n", 1, "is not UTF-8 text"),
    "UTF-16": (OWN.encode("utf-16"), 1, "is not UTF-8 text"),
    "empty": (b"", 1, "is not a table"),
    "only a comment": (b"# nothing\n", 1, "is not a table"),
    "a list": (b"- a\n", 1, "is not a table"),
    "a word": (b"hello\n", 1, "is not a table"),
    "an alias that grows": (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 2, "an alias"),
    "too large": (b"#" * (1024 * 1024 + 1), 0, "is larger than 1024 KiB"),
    "nested deeply": (b"[" * 3000, 1, "YAML"),
}


@pytest.mark.parametrize(("data", "line", "what"), NO_TABLES.values(), ids=NO_TABLES)
def test_what_is_no_table_at_all_is_said_so(data: bytes, line: int, what: str) -> None:
    (problem, *_) = problems(data)
    assert what in problem.what or "nested" in problem.what
    assert problem.line in (line, line + 1)
    assert problem.remedy


def test_all_problems_are_told_at_once() -> None:
    text = (
        OWN.replace("default: sorry", "default: sory")
        .replace("reply: sorry", "reply: sory")
        .replace("status: 500", "status: 5000\n    status: 1")
        + "  - {name: a, when: {code: x2}, reply: sorry, example: {code: x2}}\n"
        + "  - {name: b, when: {cod: x2}, reply: sorry, example: {}}\n"
        + "disable: [nothing-like-it]\n"
    )
    assert {(one.line, one.what) for one in problems(text)} == {
        (3, "the default 'sory' is not a reply"),
        (6, "replies.sorry.status is 5000"),
        (7, "the key 'status' stands twice (first in line 6)"),
        (15, "the reply 'sory' is not a reply"),
        (17, "two rules are called 'a' (the first at my.yaml:13)"),
        (18, "unknown key 'cod'"),
        (19, "the shipped table has no rule 'nothing-like-it'"),
    }


def test_problems_of_one_kind_come_in_the_files_order() -> None:
    text = OWN.replace("when: {code: x1}", "when: {}").replace("reply: sorry", "reply: nobody")
    assert [one.line for one in problems(text)] == [13, 14]


def test_two_rules_of_one_name_are_refused() -> None:
    text = OWN + "  - {name: a, when: {code: x2}, reply: sorry, example: {code: x2}}\n"
    (problem,) = problems(text)
    assert str(problem) == (
        "my.yaml:16: two rules are called 'a' (the first at my.yaml:12)\n"
        "    Give each its own name."
    )


class TestFiles:
    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        self._refused(tmp_path / "none.yaml", "cannot be read: No such file or directory")

    def test_a_path_through_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "my.yaml").write_text(OWN)
        self._refused(tmp_path / "my.yaml" / "x", "cannot be read: Not a directory")

    def test_a_folder_without_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("version: 2")
        (tmp_path / ".hidden.yaml").write_text("version: 2")
        self._refused(tmp_path, "is a folder without a .yaml file")

    def test_a_file_that_is_too_large_is_not_read_whole(self, tmp_path: Path) -> None:
        file = tmp_path / "my.yaml"
        with file.open("wb") as made:
            made.truncate(10**12)  # a terabyte of nothing
        self._refused(file, "is larger than 1024 KiB")

    def _refused(self, file: Path, what: str) -> None:
        with pytest.raises(TableError) as refused:
            load(file)
        (problem,) = refused.value.problems
        assert problem.what == what
        assert str(problem).startswith(f"{file}:0: ")


class TestAFolder:
    def test_is_one_table_and_its_first_files_rules_come_first(self, tmp_path: Path) -> None:
        for name, code in (("10-first.yaml", "not_found"), ("20-second.yml", "slow_down")):
            (tmp_path / name).write_text(
                f"version: 1\nrules:\n  - name: {name[3:-5].strip('.')}\n"
                f"    when: {{code: x1}}\n    reply: {code}\n    example: {{code: x1}}\n"
            )
        table = load(tmp_path)
        assert code_of(table, "x1") == "not_found"
        assert [Path(rule.place).name for rule in table.rules[:2]] == [
            "10-first.yaml:3",
            "20-second.yml:3",
        ]
        assert code_of(table, "invalid_base64") == "invalid_base64_image"

    def test_tells_the_problems_of_all_its_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("version: 2\n")
        (tmp_path / "b.yaml").write_text("version: 1\ndefault: nobody\n")
        with pytest.raises(TableError) as refused:
            load(tmp_path)
        assert {Path(one.file).name for one in refused.value.problems} == {"a.yaml", "b.yaml"}


class TestExtends:
    def test_shipped_is_what_is_extended_where_nothing_is_said(self) -> None:
        table = read(EXTENDED)
        assert code_of(table, "x1") == "server_error"
        assert code_of(table, "invalid_base64") == "invalid_base64_image"
        assert table.default == shipped().default
        assert table.vocabulary == shipped().vocabulary

    def test_ones_own_rules_are_tried_first(self) -> None:
        table = read(EXTENDED.replace("code: x1", "code: slow_down"))
        assert code_of(table, "slow_down") == "server_error"

    def test_none_starts_empty(self) -> None:
        table = read(OWN)
        assert list(table.replies) == ["sorry"]
        assert code_of(table, "slow_down") == "sorry"
        assert not table.reader.layouts.all
        assert not table.reader.delays

    def test_a_reply_of_the_same_name_replaces_the_shipped_one(self) -> None:
        table = read(
            EXTENDED + "replies:\n  server_error:\n"
            "    {status: 503, type: mine, message: Mine., retryable: false}\n"
        )
        assert table.replies["server_error"].messages[0].text == "Mine."
        assert table.replies["server_error"].place == "my.yaml:8"
        assert table.replies["not_found"] == shipped().replies["not_found"]

    def test_a_disabled_rule_is_gone(self) -> None:
        table = read("version: 1\ndisable: [code-slow-down]\n")
        names = {rule.name for rule in table.rules}
        assert {rule.name for rule in shipped().rules} - names == {"code-slow-down"}

    def test_a_disabled_rules_name_is_free(self) -> None:
        table = read(
            EXTENDED.replace("name: mine", "name: code-slow-down") + "disable: [code-slow-down]\n"
        )
        assert table.rules[0].place == "my.yaml:3"

    def test_a_shipped_rules_name_is_taken(self) -> None:
        (problem,) = problems(EXTENDED.replace("name: mine", "name: code-slow-down"))
        assert problem.line == 3
        assert problem.what == "the shipped table has a rule 'code-slow-down' too"
        assert "disable" in problem.remedy

    def test_a_disabled_rule_that_is_not_there_is_guessed(self) -> None:
        (problem,) = problems("version: 1\ndisable: [code-slow-dwn]\n")
        assert problem.remedy == "Did you mean 'code-slow-down'?"

    def test_ones_own_default_vocabulary_evidence_and_delays_come_first(self) -> None:
        table = read(
            "version: 1\ndefault: upstream_unavailable\nvocabulary: extended\n"
            "evidence: [{provider: acme, error_when: {bad: {is: [1, 2]}}, code: why.0}]\n"
            'retry_delays: ["come back in {delay:duration}"]\n'
        )
        assert table.default == "upstream_unavailable"
        assert table.vocabulary == "extended"
        assert table.reader.layouts.all[0].provider == "acme"
        assert len(table.reader.layouts.all) == len(shipped().reader.layouts.all) + 1
        error = table.reader.read(
            {"bad": 2, "why": ["x1"], "message": "come back in 2 minutes"}, Origin.BODY
        )
        assert [one.code for one in error.layers()][-1] == "x1"
        assert error.retry_after == 120

    def test_a_slot_may_be_filled_by_a_shipped_rule(self) -> None:
        table = read(
            "version: 1\nreplies:\n  context_length_exceeded:\n"
            "    {status: 400, type: t, retryable: false, responses_code: invalid_prompt,\n"
            "     message: ['At most {limit} tokens.', 'Shorten it.']}\n"
        )
        assert table.replies["context_length_exceeded"].messages[0].slots == ("limit",)

    def test_the_shipped_table_cannot_extend_itself(self) -> None:
        with pytest.raises(TableError, match="the shipped table extends itself"):
            parse(b"version: 1\n", str(shipped_file()))


def test_a_rule_and_a_reply_know_their_place() -> None:
    table = read(OWN)
    assert table.rules[0].place == "my.yaml:12"
    assert table.replies["sorry"].place == "my.yaml:5"


@pytest.mark.parametrize(
    ("condition", "value", "is_error"),
    [
        ("{not: 0}", 1, True),
        ("{not: 0}", 0, False),
        ("{not: [0, 200]}", 200, False),
        ("{is: false}", False, True),
        ("{is: [failed, broken]}", "broken", True),
        ("{is: null}", None, True),
        ("{}", "x", True),
        ("{}", "", False),
    ],
)
def test_evidence_says_what_is_an_error(condition: str, value: object, *, is_error: bool) -> None:
    text = OWN + f"evidence: [{{provider: acme, error_when: {{a: {condition}}}}}]\n"
    assert (read(text).reader.layouts.find({"a": value}) is not None) is is_error


def test_a_problem_says_where_what_and_what_to_do() -> None:
    one = Problem("my.yaml", 7, "it is wrong", "Make it right.")
    assert str(one) == "my.yaml:7: it is wrong\n    Make it right."
    error = TableError([one, Problem("my.yaml", 3, "b", "B."), one])
    assert str(error) == f"my.yaml:3: b\n    B.\n{one}"
