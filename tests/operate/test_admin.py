"""The admin port: what an operator can ask, and what nobody else can."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.operate.incidents import Incidents
from proxy.operate.office import Office
from proxy.operate.tables import Tables
from tests.proxies import CHAT, RESPONSES, Answer, Client, Proxy, relaying, request, shipped
from tests.upstreams import (
    CANARY,
    PATIENCE,
    Upstream,
    Visit,
    answer,
    chunk,
    completed,
    created,
    delta,
    error_event,
    says,
    says_json,
    streams,
)

ADMIN: Final = {"admin": "127.0.0.1:0"}
TOKEN: Final = "fake-token-of-the-operator"
KEY: Final = "sk-proj-fake0123456789abcdef"
RATE_LIMIT: Final = {"error": {"code": "rate_limit_exceeded", "type": "tokens", "message": CANARY}}
UNKNOWN: Final = streams(created(), error_event("warp_core_cold", 1, "The warp core is cold."))
OPEN: Final = ("/livez", "/readyz", "/startupz", "/")
GUARDED: Final = ("/metrics", "/status", "/history", "/incidents", "/table", "/events", "/else")


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))


def asking(path: str, method: str = "GET", host: str = "127.0.0.1:9090", **headers: str) -> bytes:
    """Write a request to the admin port."""
    raw = request(method, path, b"", **headers)
    return re.sub(rb"Host: [^\r]*", f"Host: {host}".encode(), raw)


async def ask(proxy: Proxy, path: str, method: str = "GET", **more: str) -> Answer:
    """Ask the admin port."""
    assert proxy.running.admin is not None
    return await answer_of(proxy.running.admin.port, asking(path, method, **more))


async def answer_of(port: int, raw: bytes) -> Answer:
    client = await connect(port)
    await client.send(raw)
    got = await client.answer()
    client.leave()
    return got


async def told(proxy: Proxy, path: str) -> Any:
    """Return what the admin port says."""
    got = await ask(proxy, path)
    assert (got.status, got.headers["Content-Type"]) == (200, "application/json")
    return got.json()


async def metric(proxy: Proxy, sample: str) -> float | None:
    text = (await ask(proxy, "/metrics")).body.decode()
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


async def poll(read: Callable[[], Awaitable[Any]], holds: Callable[[Any], Any]) -> Any:
    """Read until what is read holds."""
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            if holds(said := await read()):
                return said
            await asyncio.sleep(0.02)


async def until(proxy: Proxy, path: str, holds: Callable[[Any], Any]) -> Any:
    """Ask until what is said holds."""
    return await poll(lambda: told(proxy, path), holds)


# Health


async def test_health_is_told_without_a_token() -> None:
    async with relaying(says_json({}), **ADMIN, admin_token=TOKEN) as (_, proxy):
        for path in ("/livez", "/readyz", "/startupz"):
            got = await ask(proxy, path)
            assert (got.status, got.body) == (200, b"ok\n")


async def test_a_draining_proxy_lives_but_is_not_ready() -> None:
    async with relaying(says_json({}), **ADMIN) as (_, proxy):
        assert (await told(proxy, "/status"))["ready"] is True
        proxy.running.drain()
        assert [(await ask(proxy, path)).status for path in OPEN] == [200, 503, 503, 200]
        assert (await told(proxy, "/status"))["ready"] is False


# Who may ask


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer not-the-token"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer \xff\xfe"},
    ],
    ids=["none", "wrong", "longer", "empty", "not text"],
)
async def test_without_the_token_nothing_is_told(path: str, headers: dict[str, str]) -> None:
    async with relaying(says_json({}), **ADMIN, admin_token=TOKEN) as (_, proxy):
        got = await ask(proxy, path, **headers)
    assert (got.status, got.body) == (401, b"this port asks for a bearer token\n")


@pytest.mark.parametrize("path", [path for path in GUARDED if path not in ("/events", "/else")])
async def test_the_token_opens(path: str) -> None:
    async with relaying(says_json({}), **ADMIN, admin_token=TOKEN) as (_, proxy):
        assert (await ask(proxy, path, Authorization=f"Bearer {TOKEN}")).status == 200
        assert (await ask(proxy, f"{path}?token={TOKEN}")).status == 200
        assert (await ask(proxy, f"{path}?token=wrong")).status == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
async def test_without_a_token_no_page_of_another_name_is_answered(host: str) -> None:
    async with relaying(says_json({}), **ADMIN) as (_, proxy):
        assert (await ask(proxy, "/incidents", host=host)).status == 401
        assert (await ask(proxy, "/livez", host=host)).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9090", "10.1.2.3:80", "[::1]:80", "::1"])
async def test_without_a_token_addresses_are_answered(host: str) -> None:
    async with relaying(says_json({}), **ADMIN) as (_, proxy):
        assert (await ask(proxy, "/incidents", host=host)).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed_through_it(method: str) -> None:
    async with relaying(says_json({}), **ADMIN) as (_, proxy):
        assert (await ask(proxy, "/table", method)).status == 405


async def test_another_origin_is_given_no_leave() -> None:
    async with relaying(says_json({}), **ADMIN) as (_, proxy):
        got = await ask(proxy, "/incidents", Origin="https://elsewhere.example")
    assert not [name for name in got.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("path", [*OPEN, *GUARDED, "/incidents/abc"])
async def test_no_admin_route_is_on_the_clients_port(path: str) -> None:
    body = b'{"object": "list", "data": []}'
    async with relaying(says(answer(body)), **ADMIN) as (upstream, proxy):
        got = await proxy.ask("GET", path)
    assert upstream.visit.target == path  # it is the upstream that is asked
    assert (got.status, got.body) == (200, body)


async def test_without_an_admin_address_there_is_no_admin_port() -> None:
    async with relaying(says_json({})) as (_, proxy):
        assert proxy.running.admin is None


async def test_a_malformed_request_is_answered_without_a_word_of_the_server() -> None:
    async with relaying(says_json({}), **ADMIN) as (_, proxy):
        assert proxy.running.admin is not None
        client = await connect(proxy.running.admin.port)
        await client.send(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        got = await client.answer()
        client.leave()
    assert got.status == 400
    assert b"aiohttp" not in got.raw
    assert "Server" not in got.headers


# The page


async def test_the_page_may_only_ask_where_it_came_from() -> None:
    async with relaying(says_json({}), **ADMIN, admin_token=TOKEN) as (_, proxy):
        got = await ask(proxy, "/")
    policy = got.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert got.headers["Content-Type"] == "text/html; charset=utf-8"
    page = got.body.decode()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(""", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)


# Incidents


async def test_an_incident_has_both_sides() -> None:
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy):
        got = await proxy.ask(target=f"{CHAT}?key=hidden")
        reference = got.headers["x-request-id"]
        await proxy.exchange()
        (entry,) = (await told(proxy, "/incidents"))["incidents"]
        assert await told(proxy, f"/incidents/{reference}") == [entry]
        assert (await ask(proxy, "/incidents/of-nobody")).status == 404
    assert entry["reference"] == reference
    assert (entry["method"], entry["path"], entry["surface"]) == ("POST", CHAT, "chat")
    assert (entry["status_in"], entry["status"], entry["ending"]) == (429, 429, "failed")
    assert (entry["reply"], entry["message"]) == ("rate_limit_exceeded", got.error["message"])
    assert entry["rule"] == "code-rate-limit-exceeded"
    assert re.fullmatch(r".+/mappings\.yaml:\d+", entry["place"])
    assert entry["said"]["message"] == CANARY
    assert json.loads(entry["original"]) == RATE_LIMIT


async def test_an_incident_in_a_stream_has_the_last_events() -> None:
    async def script(visit: Visit) -> None:
        await visit.body()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        await visit.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        await visit.send(chunk(created() + delta("Hello")))
        visit.reset()

    async with relaying(script, **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        (entry,) = (await told(proxy, "/incidents"))["incidents"]
    assert entry["last_events"][-2:] == ["response.created", "response.output_text.delta"]
    assert entry["failure"] == "upstream_reset_after_response_started"
    assert (entry["status_in"], entry["status"], entry["rule"]) == (200, 200, "upstream-broke-off")


SECRETS: Final = {
    KEY: f"Incorrect API key provided: {KEY}.",
    "FAKEbearer0123456789": "sent Authorization: Bearer FAKEbearer0123456789",
    "hunter2fake": "could not reach https://svc:hunter2fake@10.0.0.9/v1",
    "session=fake0123456789": "Set-Cookie: session=fake0123456789",
}


@pytest.mark.parametrize(("secret", "message"), SECRETS.items())
@pytest.mark.parametrize("place", ["message", "code", "type", "param", "else"])
async def test_no_secret_is_told(secret: str, message: str, place: str) -> None:
    error = {"code": "fake_code", "type": "t", "message": "m", "param": None, place: message}
    script = streams(created(), error_event("fake_code", 1, "m"))
    if place in ("message", "code"):
        code, said = (message, "m") if place == "code" else ("fake_code", message)
        script = streams(created(), error_event(code, 1, said))
    async with relaying(script, **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        in_stream = await ask(proxy, "/incidents")
    async with relaying(says_json({"error": error}, 418), **ADMIN) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        in_body = await ask(proxy, "/incidents")
    assert in_stream.status == in_body.status == 200
    assert in_stream.json()["incidents"]
    assert in_body.json()["incidents"]
    assert secret.encode() not in in_stream.body + in_body.body


async def test_what_a_client_asked_is_never_told() -> None:
    prompt = "my secret diary"
    body = json.dumps({"model": "m", "input": prompt}).encode()
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy):
        await proxy.ask(body=body, Authorization=f"Bearer {KEY}")
        await proxy.exchange()
        said = [(await ask(proxy, path)).body for path in ("/incidents", "/metrics", "/table")]
    assert not [one for one in said if prompt.encode() in one or KEY.encode() in one]


async def test_originals_can_be_left_out() -> None:
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN, log_originals="off") as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        got = await ask(proxy, "/incidents")
    assert CANARY.encode() not in got.body
    assert got.json()["incidents"][0]["said"]["code"] == "rate_limit_exceeded"


async def test_a_large_original_is_kept_in_part() -> None:
    error = {"message": "long " * 100_000, "code": "c" * 100_000, "type": "t" * 100_000}
    async with relaying(says_json({"error": error}, 418), **ADMIN) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        got = await ask(proxy, "/incidents")
    assert len(got.body) < 128 * 1024
    assert len(got.json()["incidents"][0]["original"]) <= 8 * 1024


async def test_long_names_of_events_are_kept_in_part() -> None:
    name = f"response.{'x' * 100_000}"
    odd = f'event: {name}\ndata: {{"type": "{name}", "sequence_number": 1}}\n\n'.encode()
    script = streams(created(), odd, error_event("server_error", 2))
    async with relaying(script, **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        got = await ask(proxy, "/incidents")
    assert len(got.body) < 16 * 1024


def entry(number: int, **more: Any) -> dict[str, Any]:
    said = {"status": 418, "code": f"code_{'abcdefghij'[number % 10]}", "type": "", "param": ""}
    return {
        "reference": f"ref{number}",
        "at": float(number),
        "rule": None,
        "reply": "server_error",
        "failure": None,
        "by_status_only": False,
        "said": {**said, "message": f"Failed for tenant {number}."},
        **more,
    }


def test_only_the_last_incidents_are_kept() -> None:
    kept = Incidents()
    for number in range(2000):
        kept.add(entry(number, rule="some-rule"))
    latest = kept.latest()
    assert [one["reference"] for one in latest[:2]] == ["ref1999", "ref1998"]
    assert len(latest) == 500
    assert kept.find("ref0") == []
    assert kept.hits == {"some-rule": 2000}


def test_unmapped_errors_that_look_alike_are_one_group() -> None:
    kept = Incidents()
    for number in range(7):
        kept.add(
            entry(number, said={**entry(0)["said"], "message": f"Failed for tenant {number}."})
        )
    kept.add(entry(11))
    first, second = kept.unmapped()
    assert (first["count"], first["first"], first["last"]) == (7, 0.0, 6.0)
    assert second["count"] == 1
    assert "code: code_a" in first["suggested_rule"]


def test_groups_are_bounded_too() -> None:
    kept = Incidents()
    names = [f"{a}{b}{c}" for a in "abcdef" for b in "ghijkl" for c in "mnopqr"]
    for name in names:
        kept.add(entry(0, failure="internal_error", said={**entry(0)["said"], "code": name}))
    assert len(kept.unmapped()) == 100


# Figures


async def test_errors_are_counted_by_the_minute() -> None:
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy):
        assert await told(proxy, "/history") == {"reply": {}, "rule": {}}
        for _ in range(3):
            await proxy.ask(target=CHAT)
        await proxy.exchanges(3)
        history = await told(proxy, "/history")
    (by_reply,) = history["reply"].values()
    assert list(history["rule"]) == ["code-rate-limit-exceeded"]
    assert (len(by_reply), sum(by_reply), sum(by_reply[-2:])) == (60, 3, 3)


def test_an_hour_of_history_is_kept() -> None:
    office = Office(Tables(None, shipped(), lambda _: None), bool, int, bytes)
    for minute in range(1000):
        office.tell(entry(0, at=60.0 * minute))
    assert len(office._minutes) == 60


async def test_the_table_in_force_is_told_with_its_hits() -> None:
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        table = await told(proxy, "/table")
    hits = {rule["name"]: rule["hits"] for rule in table["rules"]}
    assert [name for name, count in hits.items() if count] == ["code-rate-limit-exceeded"]
    assert len(hits) == len(shipped().rules)
    assert (table["version"], table["refused"]) == (1, [])
    assert table["default"] == {"name": "server_error", "hits": 0}
    assert table["file"].endswith("mappings.yaml")
    replies = {reply["name"]: reply for reply in table["replies"]}
    assert replies["rate_limit_exceeded"]["status"] == 429


async def test_the_default_has_hits_too() -> None:
    async with relaying(UNKNOWN, **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        table = await told(proxy, "/table")
        (group,) = (await told(proxy, "/incidents"))["unmapped"]
        assert await metric(proxy, "discreet_unmapped_errors_total") == 1
    assert table["default"]["hits"] == 1
    assert group["example"]["rule"] is None


async def test_an_error_known_by_its_status_only_gets_a_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(EMPTY)
    script = says_json({"error": {"code": "warp_core_cold", "message": "Cold."}}, 418)
    async with relaying(script, **ADMIN, mappings=str(file)) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        (group,) = (await told(proxy, "/incidents"))["unmapped"]
        assert (group["example"]["rule"], group["now"]) == ("bad-request-status", None)
        # What is suggested can be served, and is known from then on.
        file.write_text(f"{EMPTY}rules:\n{group['suggested_rule']}")
        found = await until(proxy, "/incidents", lambda said: said["unmapped"][0]["now"])
        assert found["unmapped"][0]["now"] == "warp-core-cold"


async def test_what_runs_now_is_counted() -> None:
    then = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.body()
        await then.wait()
        await visit.send(answer(b"{}"))

    async with relaying(script, **ADMIN) as (_, proxy):
        client = await proxy.connect()
        await client.send(request("GET", "/v1/models"))
        await until(proxy, "/status", lambda said: said["in_flight"] == 1)
        then.set()
        await until(proxy, "/status", lambda said: said["in_flight"] == 0)


# Events


async def test_each_incident_is_told_as_it_comes() -> None:
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN, admin_token=TOKEN) as (_, proxy):
        assert proxy.running.admin is not None
        client = await connect(proxy.running.admin.port)
        await client.send(asking(f"/events?token={TOKEN}"))
        status, headers = await client.head()
        assert (status, headers["Content-Type"]) == (200, "text/event-stream")
        first = await client.until(b"\n\n")
        assert b"event: status\n" in first
        assert b'"ready":true' in first
        got = await proxy.ask(target=CHAT)
        told = await client.until(b"event: incident\n") + await client.until(b"\n\n")
        assert got.headers["x-request-id"].encode() in told
        proxy.running.drain()
        assert b"0\r\n\r\n" in await client.until(b"0\r\n\r\n")  # it ends, so that the port can
        client.leave()


async def test_a_listener_that_leaves_is_forgotten() -> None:
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy):
        assert proxy.running.admin is not None
        for _ in range(3):
            client = await connect(proxy.running.admin.port)
            await client.send(asking("/events"))
            await client.until(b"event: status\n")
            client.leave()
        await proxy.ask(target=CHAT)
        assert (await ask(proxy, "/livez")).status == 200
    assert "Traceback" not in proxy.log


# Reload


OWN: Final = """\
version: 1
extends: shipped
rules:
  - name: {name}
    when: {{code: warp_core_cold}}
    reply: server_is_overloaded
    example: {{code: warp_core_cold}}
"""
EMPTY: Final = "version: 1\nextends: shipped\n"
WITHOUT_EXAMPLE: Final = """\
version: 1
extends: shipped
rules:
  - {name: bad, when: {code: a}, reply: server_error, example: {code: b}}
"""

BAD: Final = {
    "a key that is none": (EMPTY + "rulez: []\n", ":3: unknown key 'rulez'"),
    "no YAML": ("version: [1\n", ":"),
    "an empty file": ("", ":"),
    "an example that misses its rule": (WITHOUT_EXAMPLE, ":4: "),
}


def is_own(name: str) -> Callable[[Any], bool]:
    return lambda table: table["rules"][0]["name"] == name


def write(file: Path, text: str) -> None:
    """Replace a file as editors do."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


async def test_a_changed_file_is_in_force_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(EMPTY)
    async with relaying(UNKNOWN, **ADMIN, mappings=str(file)) as (_, proxy):
        assert b"server_error" in (await proxy.ask()).body
        loaded = await metric(proxy, "discreet_table_loaded_timestamp_seconds")
        write(file, OWN.format(name="warp-core"))
        table = await until(proxy, "/table", is_own("warp-core"))
        assert (table["version"], table["file"], table["refused"]) == (2, str(file), [])
        assert table["rules"][0]["place"] == f"{file}:4"
        assert b"server_is_overloaded" in (await proxy.ask()).body
        await until(proxy, "/table", lambda said: said["rules"][0]["hits"] == 1)
        assert await metric(proxy, "discreet_table_reload_success") == 1
        now = await metric(proxy, "discreet_table_loaded_timestamp_seconds")
        assert loaded is not None
        assert now is not None
        assert now > loaded


@pytest.mark.parametrize(("text", "why"), BAD.values(), ids=BAD)
async def test_a_bad_file_keeps_the_old_table_and_says_why(
    tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(EMPTY)
    async with relaying(UNKNOWN, **ADMIN, mappings=str(file)) as (_, proxy):
        write(file, OWN.format(name="warp-core"))
        await until(proxy, "/table", is_own("warp-core"))
        write(file, text)
        table = await until(proxy, "/table", lambda said: said["refused"])
        assert f"{file}{why}" in table["refused"][0]
        assert (table["version"], table["rules"][0]["name"]) == (2, "warp-core")
        assert (await told(proxy, "/status"))["table"]["refused"] == table["refused"]
        assert await metric(proxy, "discreet_table_reload_success") == 0
        assert b"server_is_overloaded" in (await proxy.ask()).body
        assert f"{file}{why}" in json.dumps(proxy.lines()[-2], ensure_ascii=False)
        write(file, OWN.format(name="corrected"))
        table = await until(proxy, "/table", is_own("corrected"))
        assert (table["version"], table["refused"]) == (3, [])
        assert await metric(proxy, "discreet_table_reload_success") == 1


async def test_a_file_that_is_gone_keeps_the_old_table(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(EMPTY)
    async with relaying(UNKNOWN, **ADMIN, mappings=str(file)) as (_, proxy):
        file.unlink()
        table = await until(proxy, "/table", lambda said: said["refused"])
        assert "cannot be read" in table["refused"][0]
        file.write_text(OWN.format(name="back"))
        await until(proxy, "/table", is_own("back"))


def mount(folder: Path, number: int, text: str) -> None:
    """Write a ConfigMap's volume as kubelet does: a new folder, then one swap of a link."""
    data = folder / f"..2025_01_0{number}"
    data.mkdir()
    (data / "own.yaml").write_text(text)
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").replace(folder / "..data")
    if not (folder / "own.yaml").is_symlink():
        (folder / "own.yaml").symlink_to("..data/own.yaml")


@pytest.mark.parametrize("path", ["own.yaml", ""], ids=["the file", "its folder"])
async def test_a_swapped_config_map_is_in_force(tmp_path: Path, path: str) -> None:
    mount(tmp_path, 1, EMPTY)
    async with relaying(UNKNOWN, **ADMIN, mappings=str(tmp_path / path)) as (_, proxy):
        mount(tmp_path, 2, OWN.format(name="swapped"))
        table = await until(proxy, "/table", is_own("swapped"))
        assert table["version"] == 2
        mount(tmp_path, 3, EMPTY + "rulez: []\n")
        table = await until(proxy, "/table", lambda said: said["refused"])
        assert table["rules"][0]["name"] == "swapped"


async def test_a_folder_may_gain_a_file(tmp_path: Path) -> None:
    (tmp_path / "20-more.yaml").write_text(EMPTY)
    async with relaying(UNKNOWN, **ADMIN, mappings=str(tmp_path)) as (_, proxy):
        (tmp_path / "10-first.yaml").write_text(OWN.format(name="first"))
        table = await until(proxy, "/table", is_own("first"))
    assert table["file"] == str(tmp_path)


async def test_a_stream_keeps_the_table_it_began_with(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(EMPTY)
    then = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.body()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        await visit.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        await visit.send(chunk(created() + delta("Hello")))
        await then.wait()
        await visit.send(chunk(error_event("warp_core_cold")), b"0\r\n\r\n")

    async with relaying(script, **ADMIN, mappings=str(file)) as (_, proxy):
        client = await proxy.connect()
        await client.send(request())
        await client.until(b"Hello")
        write(file, OWN.format(name="warp-core"))
        await until(proxy, "/table", is_own("warp-core"))
        then.set()
        ending = await client.until(b"0\r\n\r\n")
    assert b"server_error" in ending
    assert b"server_is_overloaded" not in ending


# The command: SIGHUP, and several workers behind one admin port


@asynccontextmanager
async def command(upstream: Upstream, *flags: str) -> AsyncIterator[tuple[int, int, int]]:
    """Run `discreet serve`; give its process, its port and its admin port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "--upstream", upstream.url),
        *("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *flags),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={k: v for k, v in os.environ.items() if not k.startswith("DISCREET_")},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(3 * PATIENCE):
            ready = (await process.stdout.readline()).decode()
        port, _, admin = re.findall(r"http://127\.0\.0\.1:(\d+)", ready)
        yield process.pid, int(port), int(admin)
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE):
            await process.communicate()


async def json_of(port: int, path: str) -> Any:
    return (await answer_of(port, asking(path))).json()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_hangup_reloads_the_table(tmp_path: Path, workers: str) -> None:
    folder = tmp_path / "linked"
    folder.mkdir()
    file = folder / "own.yaml"
    file.write_text(EMPTY)
    # A link from elsewhere: nothing in its own folder changes, so only the signal tells.
    link = tmp_path / "table.yaml"
    link.symlink_to(file)
    flags = ("--mappings", str(link), "--workers", workers)
    async with Upstream(UNKNOWN) as upstream, command(upstream, *flags) as (pid, port, admin):
        file.write_text(OWN.format(name="hung-up"))
        os.kill(pid, signal.SIGHUP)
        table = await poll(lambda: json_of(admin, "/table"), is_own("hung-up"))
        await poll(lambda: ask_client(port), lambda said: b"server_is_overloaded" in said)
        await poll(lambda: json_of(admin, "/incidents"), lambda said: said["incidents"])
    assert table["refused"] == []


async def ask_client(port: int) -> bytes:
    return (await answer_of(port, request("POST", RESPONSES))).body


async def test_incidents_of_all_workers_are_told_on_one_port() -> None:
    async with (
        Upstream(says_json(RATE_LIMIT, 429)) as upstream,
        command(upstream, "--workers", "2") as (_, port, admin),
    ):
        for _ in range(8):
            await ask_client(port)
        incidents = partial(json_of, admin, "/incidents")
        await poll(incidents, lambda said: len(said["incidents"]) == 8)
        table = await json_of(admin, "/table")
        history = await json_of(admin, "/history")
    assert sum(rule["hits"] for rule in table["rules"]) == 8
    assert sum(map(sum, history["reply"].values())) == 8


async def test_a_healthy_answer_is_no_incident() -> None:
    async with relaying(streams(created(), delta("Hi"), completed()), **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        assert await told(proxy, "/incidents") == {"incidents": [], "unmapped": []}
