"""What is counted and timed, scraped from the admin port."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.operate.metrics import Metrics
from tests.operate.test_admin import ADMIN, UNKNOWN, ask, metric, poll
from tests.proxies import CHAT, Proxy, relaying
from tests.upstreams import (
    CHAT_FINISH,
    CHAT_OBJECT,
    CHAT_ROLE,
    DONE,
    Script,
    chat_text,
    error_event,
    says_json,
    streams,
)

HEALTHY = streams(CHAT_ROLE, chat_text("Hello"), CHAT_FINISH, DONE)


async def counted(proxy: Proxy, sample: str) -> float:
    return await metric(proxy, sample) or 0.0


async def test_connecting_is_timed_once_for_each_connection() -> None:
    async with relaying(HEALTHY, **ADMIN) as (_, proxy):
        for _ in range(3):
            await proxy.ask(target=CHAT)
        await proxy.exchanges(3)
        assert await counted(proxy, "discreet_upstream_connect_seconds_count") == 1
        assert 0 < await counted(proxy, "discreet_upstream_connect_seconds_sum") < 5


@pytest.mark.parametrize("script", [HEALTHY, says_json(CHAT_OBJECT)])
async def test_the_proxy_s_own_time_is_timed(script: Script) -> None:
    async with relaying(script, **ADMIN) as (_, proxy):
        await proxy.ask(target=CHAT)
        line = await proxy.exchange()
        count = await counted(proxy, 'discreet_added_latency_seconds_count{surface="chat"}')
        total = await counted(proxy, 'discreet_added_latency_seconds_sum{surface="chat"}')
    assert count == 1
    assert 0 < total < line["seconds"]


async def test_an_answer_without_content_adds_no_latency() -> None:
    async with relaying(streams(error_event("server_error")), **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        assert (
            "discreet_added_latency_seconds_count"
            not in (await ask(proxy, "/metrics")).raw.decode()
        )


async def test_the_table_s_version_goes_up_with_each_reload(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("version: 1\nextends: shipped\n")
    async with relaying(HEALTHY, mappings=file, **ADMIN) as (_, proxy):
        assert await metric(proxy, "discreet_table_version") == 1
        file.write_text("version: 1\nextends: shipped\ndisable: [upstream-silent]\n")
        await poll(lambda: metric(proxy, "discreet_table_version"), lambda found: found == 2)
        file.write_text("version: 1\nnonsense: true\n")
        success = "discreet_table_reload_success"
        await poll(lambda: metric(proxy, success), lambda found: found == 0)
        assert await metric(proxy, "discreet_table_version") == 2


async def test_hits_are_counted_by_rule_and_the_default_is_none() -> None:
    limited = says_json({"error": {"code": "rate_limit_exceeded", "message": "slow"}}, 429)
    async with relaying(limited, **ADMIN) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        text = (await ask(proxy, "/metrics")).body.decode()
        assert "discreet_unmapped_errors_total 0.0" in text
        (hits,) = (
            line for line in text.splitlines() if line.startswith("discreet_table_hits_total")
        )
        assert hits.endswith(" 1.0")
    async with relaying(UNKNOWN, **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        text = (await ask(proxy, "/metrics")).body.decode()
        assert "discreet_unmapped_errors_total 1.0" in text
        assert "discreet_table_hits_total{" not in text


async def test_what_is_left_out_of_a_stream_is_counted() -> None:
    stray = b"nobody: knows this\n\n"
    script = streams(CHAT_ROLE, stray, chat_text("Hello"), stray, CHAT_FINISH, DONE)
    async with relaying(script, **ADMIN) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        assert await metric(proxy, 'discreet_dropped_total{what="event"}') == 2


async def test_incidents_beyond_the_limit_are_counted() -> None:
    failed = [
        {"type": "mcp_call", "id": f"mcp_{number}", "error": f"fault {number}"}
        for number in range(30)
    ]
    response = {"id": "resp_1", "object": "response", "status": "completed", "output": failed}
    async with relaying(says_json(response), **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        assert await metric(proxy, 'discreet_dropped_total{what="incident"}') == 14


def test_every_metric_has_a_sentence() -> None:
    metrics = [one for one in vars(Metrics(None)).values() if hasattr(one, "_documentation")]
    assert len(metrics) > 10
    for one in metrics:
        assert one._documentation.endswith(".")
