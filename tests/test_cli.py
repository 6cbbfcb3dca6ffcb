"""The command, run as a user runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.cli import app
from proxy.core.failures import Failure
from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.explain import Explainer, describe
from proxy.settings import Settings, flag_of, variable_of
from tests.proxies import shipped
from tests.upstreams import CANARY, created, delta, error_event

COMMANDS = ["serve", "demo", "check", "explain", "codes"]


def run(
    *arguments: str | Path, stdin: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment without settings; it must never show a traceback."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DISCREET_")}
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=environment | variables | {"COLUMNS": "80"},
        timeout=60,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in out + err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def invoke(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """The same in this process, for tables of many cases."""
    environment = dict.fromkeys((n for n in os.environ if n.startswith("DISCREET_")), None)
    done = CliRunner().invoke(app, [*map(str, arguments)], input=stdin, env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


# Help


def test_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = invoke(command, "--help")
    assert done.returncode == 0
    assert f"{command} [OPTIONS]" in done.stdout
    assert done.stderr == ""


def test_serve_s_help_explains_every_setting() -> None:
    said = " ".join(run("serve", "--help").stdout.split())
    for name, field in Settings.model_fields.items():
        assert f"{flag_of(name)} " in said
        assert variable_of(name) in said.replace(" ", "") or variable_of(name) in said
        assert str(field.description).split(".")[0] in said


# Wrong usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["--frobnicate"],
        ["serve", "--frobnicate"],
        ["serve", "here"],
        ["check", "one.yaml", "two.yaml"],
        ["explain", "--status", "many"],
        ["explain", "--status", "99"],
        ["explain", "--surface", "fax", "--failure", "draining"],
        ["explain"],
        ["explain", "--event", "-", "--stream", "-"],
        ["explain", "--failure", "nonsense"],
        ["explain", "--event", "/nowhere/at/all"],
        ["explain", "--status", "500", "--body", "/nowhere/at/all"],
        ["codes", "--mappings", "/nowhere/at/all"],
        ["check", "/nowhere/at/all"],
        ["serve"],
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(arguments: list[str]) -> None:
    done = invoke(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip()


def test_wrong_usage_shows_no_traceback() -> None:
    done = run("explain", "--status", "many")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--status" in done.stderr


def test_without_arguments_it_shows_its_help() -> None:
    done = run()
    assert "Usage:" in done.stdout + done.stderr


# Check

GOOD = """\
version: 1
extends: shipped
replies:
  out_of_coffee:
    status: 503
    type: server_error
    responses_code: server_error
    message: "The kitchen is closed. Please try again later."
    retryable: true
rules:
  - name: coffee
    when: {code: [no_coffee]}
    reply: out_of_coffee
    example: {code: no_coffee}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "my.yaml"
    file.write_text(GOOD)
    return file


def test_check_proves_the_shipped_table() -> None:
    done = run("check")
    assert done.returncode == 0
    assert f"{len(shipped().rules)} rules" in done.stdout


def test_check_proves_a_table(table: Path) -> None:
    done = run("check", table)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(table) in done.stdout


def test_check_finds_an_example_that_does_not_reach_its_rule(table: Path) -> None:
    table.write_text(GOOD.replace("example: {code: no_coffee}", "example: {code: no_tea}"))
    done = run("check", table)
    assert done.returncode == 1
    assert f"{table}:12" in done.stderr or f"{table}:11" in done.stderr
    assert "1 problem in the table." in done.stderr


def test_check_finds_every_problem_of_a_table_that_cannot_be_read(table: Path) -> None:
    wrong = GOOD.replace("status: 503", "status: 200").replace("retryable:", "retriable:")
    table.write_text(wrong.replace("reply: out_of_coffee", "reply: out_of_tea"))
    done = run("check", table)
    assert done.returncode == 2
    assert done.stdout == ""
    places = [line for line in done.stderr.splitlines() if line.startswith(f"{table}:")]
    assert len(places) >= 2
    assert f"{table}:5" in done.stderr
    assert "retryable" in done.stderr


@pytest.mark.parametrize(
    "text", ["", "[]", "text", "a: [", "\t\x00", "a: *b", "{a: 1, a: 2}", "caf\udce9: 1"]
)
def test_check_says_where_a_file_is_no_table(table: Path, text: str) -> None:
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = invoke("check", table)
    assert done.returncode == 2
    assert str(table) in done.stderr


def test_serve_refuses_a_table_that_check_refuses(table: Path) -> None:
    table.write_text(GOOD.replace("example: {code: no_coffee}", "example: {code: no_tea}"))
    done = invoke("serve", "--upstream", "http://127.0.0.1:9", "--mappings", table)
    assert done.returncode == 2
    assert str(table) in done.stderr
    assert done.stdout == ""


# Explain

RATE = json.dumps({"error": {"code": "rate_limit_exceeded", "message": f"{CANARY} in 7s"}})


def test_explain_shows_the_rules_the_match_and_the_client_s_bytes(tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(RATE)
    done = run("explain", "--status", "429", "--body", body)
    assert done.returncode == 0
    tried, _, client = done.stdout.partition("the client gets\n")
    assert "code='rate_limit_exceeded'" in tried
    assert "  yes  code-rate-limit-exceeded, " in tried
    assert "mappings.yaml:" in tried
    assert "reply  rate_limit_exceeded, status 429" in tried
    assert json.loads(client)["error"]["code"] == "rate_limit_exceeded"
    assert CANARY not in client


def test_explain_reads_standard_input() -> None:
    done = run("explain", "--status", "429", "--body", "-", stdin=RATE.encode())
    assert "reply  rate_limit_exceeded" in done.stdout


def test_explain_needs_no_body() -> None:
    done = invoke("explain", "--status", "503")
    assert done.returncode == 0
    assert "server_is_overloaded" in done.stdout or "upstream_unavailable" in done.stdout


def test_explain_tells_what_is_no_error() -> None:
    body = b'{"id": "resp_1", "object": "response", "status": "completed", "error": null}'
    done = invoke("explain", "--status", "200", "--body", "-", stdin=body)
    assert done.returncode == 0
    assert "no error" in done.stdout


@pytest.mark.parametrize("framed", [True, False])
def test_explain_an_event(framed: bool) -> None:  # noqa: FBT001 - a case
    event = error_event("invalid_base64")
    data = event if framed else event.partition(b"data: ")[2]
    done = invoke("explain", "--event", "-", stdin=data)
    assert done.returncode == 0
    client = done.stdout.partition("the client gets\n")[2]
    assert "event: response.failed" in client
    assert '"code":"invalid_base64_image"' in client
    assert CANARY not in client


def test_explain_a_stream(tmp_path: Path) -> None:
    file = tmp_path / "captured.sse"
    file.write_bytes(created() + delta("Hello") + error_event("server_error"))
    done = invoke("explain", "--stream", file)
    client = done.stdout.partition("the client gets\n")[2]
    assert client.startswith("event: response.created\n")
    assert "response.failed" in client
    assert CANARY not in client


def test_explain_on_another_surface() -> None:
    event = json.dumps({"error": {"code": 429, "message": CANARY}}).encode()
    done = invoke("explain", "--event", "-", "--surface", "chat", stdin=event)
    client = done.stdout.partition("the client gets\n")[2]
    assert client.endswith("data: [DONE]\n")
    assert '"code":"rate_limit_exceeded"' in client


@pytest.mark.parametrize("failure", Failure)
def test_explain_has_a_rule_for_every_failure(failure: Failure) -> None:
    explained = Explainer(shipped(), "responses", "client").failure(failure)
    assert any(line.startswith("  yes  ") for line in describe(explained))
    assert json.loads(explained.client)["error"]["code"] == explained.reply.code


def test_explain_a_failure() -> None:
    done = invoke("explain", "--failure", "stream_idle_timeout")
    assert done.returncode == 0
    assert "reply  upstream_timeout, status 504" in done.stdout


def test_explain_lists_the_failures_where_one_is_unknown() -> None:
    done = invoke("explain", "--failure", "stream_idle")
    assert all(failure.value in done.stderr for failure in Failure)


def test_explain_whose_key_it_was() -> None:
    said = b'{"error": {"code": "invalid_api_key"}}'
    for credentials, code in (("client", "invalid_api_key"), ("proxy", "upstream_unavailable")):
        done = invoke("explain", "--status", "401", "--body", "-", "--credentials", credentials,
                   stdin=said)  # fmt: skip
        assert f"reply  {code}," in done.stdout


def test_explain_by_one_s_own_table(table: Path) -> None:
    done = invoke("explain", "--status", "418", "--body", "-", "--mappings", table,
               stdin=b'{"error": {"code": "no_coffee"}}')  # fmt: skip
    assert f"  yes  coffee, {table}:" in done.stdout


def test_explain_every_rule() -> None:
    short = invoke("explain", "--failure", "draining").stdout.count("  no ")
    every = invoke("explain", "--failure", "draining", "--every").stdout.count("  no ")
    assert every > short > 0


def test_an_error_cannot_move_the_terminal_s_cursor() -> None:
    body = json.dumps({"error": {"message": "\x1b[2J\x07\u2028 gone", "code": "\x1b[31m"}})
    done = invoke("explain", "--status", "400", "--body", "-", stdin=body.encode())
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout


# Codes


def test_codes_prints_every_reply_as_markdown() -> None:
    done = run("codes")
    assert done.returncode == 0
    rows = [line for line in done.stdout.splitlines() if line.startswith("| `")]
    named = {row.split("`")[1]: row for row in rows}
    assert named.keys() == shipped().replies.keys()
    for name, reply in shipped().replies.items():
        assert f"| {reply.status} |" in named[name]
        assert named[name].count("|") == 6
        always = reply.messages[-1].fill({})
        assert always
        assert always in named[name]
    assert set(RESPONSE_ERROR_CODES) <= named.keys()


def test_codes_of_one_s_own_table(table: Path) -> None:
    assert "| `out_of_coffee` | 503 |" in invoke("codes", "--mappings", table).stdout


# Serve


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag in ("--listen", "--admin"):
            other = {"--listen": "--admin", "--admin": "--listen"}[flag]
            done = run("serve", "--upstream", "http://127.0.0.1:9", flag, address, other,
                       "127.0.0.1:0")  # fmt: skip
            assert done.returncode == 2
            assert done.stdout == ""
            assert "in use" in done.stderr
            assert len(done.stderr.strip().splitlines()) <= 2


def test_a_host_that_is_not_here_is_one_sentence() -> None:
    done = run("serve", "--upstream", "http://127.0.0.1:9", "--listen", "nowhere.invalid:0")
    assert done.returncode == 2
    assert done.stderr.startswith("discreet cannot start:\n")
    assert len(done.stderr.strip().splitlines()) == 2


def test_every_problem_of_the_settings_is_shown_at_once() -> None:
    done = run("serve", "--gate", "soon", DISCREET_LISTEN="nowhere", DISCREET_UPSTREEM="x")
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first == "discreet cannot start:"
    assert len(rest) == 4
    for place in ("--upstream (or DISCREET_UPSTREAM)", "--gate:", "DISCREET_LISTEN:"):
        assert place in done.stderr
    assert "did you mean DISCREET_UPSTREAM?" in done.stderr


def test_a_secret_in_a_wrong_setting_is_not_shown() -> None:
    key = "sk-fake-0123456789"
    done = run("serve", "--upstream", f"https://me:{key}@api.example.com",
               DISCREET_UPSTREAM_HEADERS=key)  # fmt: skip
    assert done.returncode == 2
    assert key not in done.stderr
