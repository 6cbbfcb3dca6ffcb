"""What the person on call does with a reference: find it, replay it, mend the table, see why."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from proxy.core.table_check import check
from proxy.core.table_file import load, parse
from proxy.operate.review import compare, read_incidents
from proxy.operate.suggest import suggest_rule
from tests.proxies import CHAT, relaying
from tests.upstreams import answer, says

UNKNOWN = json.dumps({"error": {"message": "Tenant acme-42 is over its fair share of pool 'x9'."}})
MINE = """
version: 1
rules:
  - name: fair-share
    when: {message: "is over its fair share"}
    reply: rate_limit_exceeded
    example: {status: 418, message: "Tenant a is over its fair share of pool b."}
"""


async def discreet(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"COLUMNS": "80"},
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_from_a_reference_to_a_rule_that_changes_what_clients_read(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(MINE)
    async with relaying(says(answer(UNKNOWN.encode(), 418)), admin="127.0.0.1:0") as (_, proxy):
        got = await proxy.ask(target=CHAT)
        reference = got.headers["x-request-id"]
        admin = f"--admin={proxy.running.admin}"
        code, listed = await discreet("incidents", admin)
        assert code == 0
        assert reference in listed
        assert "Tenant acme-42" in listed
        assert "message: Tenant ... is over its fair share of pool" in listed
        code, shown = await discreet("explain", f"--incident={reference}", admin)
        assert code == 0
        assert "reply  invalid_request" in shown
        code, shown = await discreet(
            "explain", f"--incident={reference}", admin, f"--mappings={mine}"
        )
        assert code == 0
        assert "yes  fair-share" in shown
        assert '"code":"rate_limit_exceeded"' in shown
        code, lines = await discreet("incidents", reference, "--json", admin)
        assert code == 0
        (tmp_path / "saved.jsonl").write_text(lines)
        assert (await discreet("incidents", "nobody", admin))[0] == 1
    code, diff = await discreet("check", str(mine), f"--against={tmp_path / 'saved.jsonl'}")
    assert code == 0
    assert "1 errors read, 1 would be answered otherwise" in diff
    assert "- 400 invalid_request" in diff
    assert "+ 429 rate_limit_exceeded" in diff


async def test_a_proxy_that_is_not_there_is_said_in_a_sentence() -> None:
    code, said = await discreet("incidents", "--admin", "127.0.0.1:9")
    assert code == 2
    assert "cannot be asked" in said
    assert "Traceback" not in said


async def test_the_log_itself_can_be_reviewed() -> None:
    async with relaying(says(answer(UNKNOWN.encode(), 418))) as (_, proxy):
        await proxy.ask(target=CHAT)
        line = json.dumps(await proxy.exchange())
    table = parse(MINE.encode(), "mine.yaml")
    (logged,) = read_incidents(line + "\nno json\n{}\n", table)
    assert logged.reply == "invalid_request"
    assert any("+ 429" in text for text in compare(iter([logged]), table))
    assert next(compare(iter([logged]), load())).startswith("1 errors read, 0 would")


@pytest.mark.parametrize(
    ("said", "failure", "when"),
    [
        ({"code": "warp_core_cold"}, None, "code: warp_core_cold"),
        ({"type": "WarpError"}, None, "type: WarpError"),
        ({"message": "Pool x9 has no room left."}, None, "message: Pool ... has no room left"),
        ({"code": "***", "message": "Key *** of pool 7 is worn out"}, None, "message:"),
        ({}, "draining", "failure: draining"),
    ],
)
def test_a_suggested_rule_is_proven_and_changes_no_reply(
    said: dict[str, str], failure: str | None, when: str
) -> None:
    nothing = dict.fromkeys(("status", "code", "type", "param", "message"), "")
    suggested = suggest_rule(nothing | said, failure, "server_error")
    assert suggested is not None
    assert when in suggested.text
    assert "reply: server_error" in suggested.text
    rules = "".join(f"  {line}\n" for line in suggested.text.splitlines())
    table = parse(f"version: 1\nrules:\n{rules}".encode(), "pasted.yaml")
    assert check(table) == []


def test_where_nothing_is_telling_nothing_is_suggested() -> None:
    nothing = dict.fromkeys(("status", "code", "type", "param", "message"), "")
    assert suggest_rule(nothing | {"status": "500", "message": "Oh 7"}, None) is None
